"""Measurements of cost, side by side in one run: `imcl bench`. Ratios, medians, a record of each."""

from pathlib import Path

RECORDS = Path("results/bench")
