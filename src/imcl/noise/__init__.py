"""The kinds of label noise: each an entry here and the module of its name.

A kind that is drawn has a function `flip(arrays, rate, rng)`. One that people made has the files it
is read from, here, and a function `read(arrays, labels, archives)` with its nominal RATES.
"""

from imcl.data import Archive

KINDS: dict[str, tuple[Archive, ...]] = {
    "symmetric": (),
    "symmetric_inclusive": (),
    "asymmetric": (),
    "pair": (),
    "instance": (),
    "human": (
        Archive(
            "CIFAR-10_human.pt",
            "https://raw.githubusercontent.com/UCSC-REAL/cifar-10-100n/main/data/CIFAR-10_human.pt",
            2_401_007,
            "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310",
        ),
    ),
}
