"""Intra-model collaborative learning: one classifier whose own parts teach each other.

A reproduction of Fang and Lin (arXiv 2105.09590, 2021). In your own training loop:

    collaboration = imcl.Collaboration(model, ways=["output", "kernel"])
    logits, loss, terms = collaboration(images, labels)
    loss.backward()
"""

# True for type checkers. Importing `typing` takes 10 ms, in which no Ctrl-C is handled.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from imcl.collaboration import Collaboration

__version__ = "0.1.0"
__all__ = ["Collaboration", "__version__"]


def __getattr__(name: str) -> "Any":
    # Importing torch takes seconds, and `imcl plan` does not need it.
    if name == "Collaboration":
        from importlib import import_module

        return import_module("imcl.collaboration").Collaboration
    raise AttributeError(f"module 'imcl' has no attribute {name!r}")
