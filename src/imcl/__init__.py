"""Intra-model collaborative learning: one classifier whose own parts teach each other.

A reproduction of Fang and Lin (arXiv 2105.09590, 2021). In a training loop of your own::

    collaboration = imcl.Collaboration(model, {"output": {"variant": "dropout"}, "kernel": {}})
    logits, loss, terms = collaboration(images, labels)
    loss.backward()
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["Collaboration", "__version__"]


def __getattr__(name: str):
    # Importing torch takes seconds, and `imcl plan` has no use for it.
    if name == "Collaboration":
        return import_module("imcl.ways.collaboration").Collaboration
    raise AttributeError(f"module 'imcl' has no attribute {name!r}")
