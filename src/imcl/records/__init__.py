"""The store of results: what a record is, and how it is read, written, sealed and listed.

Only `imcl.records.store` opens records and measurements. The room comes before training, which
writes through it.
"""
