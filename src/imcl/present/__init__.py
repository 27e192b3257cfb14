"""From JSON to what people read: tables, figures, the paper, the HTML report, the crate, the trace.

Nothing here computes a statistic: every number comes from `Documents`, so from `imcl.analysis` and
from committed measurements.
"""
