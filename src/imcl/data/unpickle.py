"""Opens a pickle that may hold only what the CIFAR format needs.

A pickle can name any function and have it called, so a pickle from a network is code. This
unpickler knows the few names that an array is made from and refuses every other.
"""

import pickle
from typing import BinaryIO

import numpy as np

from imcl.errors import ImclError


def unpickle(file: BinaryIO) -> dict:
    """Read one pickled dict of text, numbers, lists and numpy arrays.

    Raises:
        ImclError: the pickle names something else, or is damaged.
    """
    try:
        value = _Unpickler(file, encoding="latin1").load()
    except ImclError:
        raise
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise ImclError(f"a damaged pickle: {error}") from error
    if not isinstance(value, dict):
        raise ImclError(f"a pickle of {type(value).__name__}, not of a dict")
    return value


class _NdArray:
    """Stands for numpy.ndarray: called with a buffer, the class itself would read any address."""

    def __new__(cls, *arguments):
        raise ImclError("a pickle calls numpy.ndarray; refused")


def _reconstruct(kind: object, shape: object, typecode: object) -> np.ndarray:
    """The empty array that numpy's pickles begin with; its state follows and is checked there."""
    if kind is not _NdArray:
        raise ImclError("a pickle asks for an array of another class; refused")
    return np.empty(0, np.int8)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ImclError(f"a pickle asks for the encoding {encoding!r}; refused")
    return text.encode("latin1")


_ALLOWED = {
    # numpy's own way of pickling an array, under its old and its new module name
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): np.dtype,
    # how Python 3 writes bytes in protocol 2
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ImclError(f"a pickle asks for {module}.{name}; refused") from None
