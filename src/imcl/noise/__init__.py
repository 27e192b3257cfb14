"""The kinds of label noise. Each is the module of the same name, with a function `flip`."""

KINDS = ("symmetric", "symmetric_inclusive", "asymmetric", "pair", "instance")
