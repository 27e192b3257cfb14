"""From records to what people read: summary, tables, figures, paper."""

from pathlib import Path

SUMMARY = Path("results/summary.json")
METRICS = Path("results/metrics")
CURVES = Path("results/curves.csv")
BUILD = Path("paper/build")
TEMPLATES = Path("paper/templates")
