"""The datasets: from archives to arrays.

To add a source NAME, write an entry in `imcl.study.sources.SOURCES` and the module imcl.data.NAME
with one function::

    def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays: ...

`options` are the dataset's options; a relative `path` already starts at the project's folder.
`archives` are the files of the source, in the entry's order, with their checksums already checked.
`scratch` is a folder for arrays too large for memory, which `imcl.data.arrays.store` writes and
maps. To prepare a dataset, `imcl.data.prepare` calls `read`, then splits, describes and stores the
result.
"""
