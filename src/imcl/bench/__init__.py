"""Measurements of cost and speed, side by side in one run.

A measurement is an entry in `imcl.bench.options.BENCHES` and the module imcl.bench.NAME with a
function `rows(project, settings, options)`.
"""
