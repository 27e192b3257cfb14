"""Records in, JSON out: statistics, the summary of a study, the judged claims, the search.

Three rules, three files: `summary` reads the records of one study, `claims` those of all studies
that count as evidence, `search` those of the rungs. `imcl.present` shows them and computes nothing.
"""
