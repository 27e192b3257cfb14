"""The methods that a reader will compare with, in the same harness: the peers of the four ways.

A peer is one entry here and the module of its name with a function `build(model, options, context)`
(see peer.py). It is imported when first used, since the grid needs the names but not torch.
"""

from imcl.ways import WAYS

PEERS = (
    *("multihead", "dml", "one", "byot", "rdrop", "cskd"),
    *("label_smoothing", "gce", "sce", "elr", "coteaching"),
)

_TWO = dict.fromkeys(WAYS, "which trains two networks: there is no one network whose parts agree")

# Ways that a peer cannot be joined with, and why.
APART: dict[str, dict[str, str]] = {
    "dml": _TWO,
    "coteaching": _TWO,
    "rdrop": {"output": "whose two dropout passes are already the parts of the output layer"},
}
