"""Measurements of cost and speed, side by side in one run."""
