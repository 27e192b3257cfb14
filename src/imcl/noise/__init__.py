"""The kinds of label noise.

To add a kind NAME, write an entry in `imcl.study.sources.KINDS` and the module imcl.noise.NAME. If
its labels are drawn, the module has the function::

    def flip(arrays: Arrays, rate: float, rng: np.random.Generator) -> Labels: ...

which returns the noisy labels of the training images, int64 (N,), and leaves the clean ones in
`arrays` as they are. If people gave the labels, the entry lists the files that hold
them, and the module has `RATES`, the nominal rate of each set of labels, and the function::

    def read(arrays: Arrays, labels: str, archives: list[Path]) -> Labels: ...

`imcl.noise.inject` imports the module when labels of that kind are made, then describes and stores
them.
"""
