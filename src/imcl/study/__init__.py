"""What is planned: params.yaml, checked and typed, expanded into the cells of a study.

Handles only names and numbers: no torch, no data, no results.
"""
