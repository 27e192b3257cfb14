"""The losses of the four ways: how the parts of one network teach each other.

A way is an entry in `imcl.study.options.WAYS` and the module of its name here, with a function
`loss(options, parts)`. If the loss reads the stages, `STATISTICS` there names what each variant
needs of them.
"""
