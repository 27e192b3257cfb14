"""The baselines: known methods to compare the ways with, trained in the same loop.

A baseline is an entry in `imcl.study.options.BASELINES` and the module of its name here, with a
function `build(model, options, context) -> BaselineMethod` (see baseline.py).
"""
