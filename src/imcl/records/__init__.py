"""The store of results: what a record is, and how it is read, written, sealed and listed.

Only `imcl.records.store` opens records and measurements. Training writes its records through it, so
this package must not import training.
"""
