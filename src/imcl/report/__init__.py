"""From records to what people read: summary, tables, figures, paper."""

from pathlib import Path

# Holds one file, STUDY-DIGEST.json, of the study that was summarised last. So whatever is made from
# another study's summary is out of date by name, not by time.
SUMMARY = Path("results/summary")
METRICS = Path("results/metrics")
CURVES = Path("results/curves.csv")
BUILD = Path("paper/build")
TEMPLATES = Path("paper/templates")
BENCHES = Path("paper/results/bench")  # committed, since a machine's speed cannot be made again
