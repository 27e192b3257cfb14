"""Training: from prepared data to a network, its weights and its record.

`worker.train` trains a cell, `seed.SeedRun` one of its seeds.
"""
