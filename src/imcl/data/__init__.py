"""The datasets: from archives to arrays.

To add a source NAME, write an entry in `imcl.study.sources.SOURCES` and the module imcl.data.NAME
with one function::

    def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays: ...

Its arguments are the dataset's options, with `path` from the project's folder; the files of the
source in the entry's order, their checksums already checked; and a folder for arrays too large for
memory, which `imcl.data.arrays.store` writes and maps. `imcl.data.prepare` imports the module when
a dataset of that source is prepared, then splits, describes and stores what it returned.
"""
