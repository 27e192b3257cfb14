"""Measurements of cost, side by side in one run: ratios, medians, and a record of each."""
