"""What is planned: params.yaml, checked and typed, expanded into the cells of a study.

Knows names and numbers alone: no torch, no data, no results.
"""
