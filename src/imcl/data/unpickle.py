"""Opens a pickle that may hold only what the CIFAR format needs, and holds large text once.

A pickle can name any function and have it called, so a pickle from a network is code. This
unpickler knows the few names that an array is made from, gives each a stand-in of its own, and
refuses every other name: nothing of numpy is called with what the pickle says.

Python's own unpickler written in Python is the base, since the one in C copies the pixels of a
batch three times: CIFAR-100's training set is one string of 154 MB.
"""

import codecs
import pickle
import re
from typing import BinaryIO, ClassVar

import numpy as np

from imcl.errors import ImclError

LARGE = 1 << 20  # bytes; longer text is pixels and stays as it is
CHUNK = 1 << 20


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
    return {key: v.array if isinstance(v, _Array) else v for key, v in value.items()}


class _NdArray:
    """Stands for numpy.ndarray, which a pickle may name and not call: called with a buffer, the
    class itself would read any address."""

    def __new__(cls, *arguments):
        raise ImclError("a pickle calls numpy.ndarray; refused")


class _Dtype:
    """Stands for numpy.dtype: whole numbers and floats only."""

    def __init__(self, code: object, *flags: object):
        if not isinstance(code, str) or not re.fullmatch("[iuf][1248]", code):
            raise ImclError(f"a pickle asks for the data type {code!r}; refused")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|"):
            raise ImclError(f"a pickle asks for the byte order {state[1]!r}; refused")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array, which begins empty and gets its content as its state."""

    array = np.empty(0, np.int8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise ImclError("a pickle asks for an array of another kind; refused")
        if isinstance(content, str):
            content = content.encode("latin1")
        order = "F" if fortran else "C"
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


def _reconstruct(kind: object, shape: object, typecode: object) -> _Array:
    if kind is not _NdArray:
        raise ImclError("a pickle asks for an array of another class; refused")
    return _Array()


def _encode(text: str | bytearray, encoding: str) -> bytes | bytearray:
    if encoding != "latin1":
        raise ImclError(f"a pickle asks for the encoding {encoding!r}; refused")
    return text if isinstance(text, bytearray) else text.encode("latin1")


_ALLOWED = {
    # numpy's own way of pickling an array, under its old and its new module name
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): _Dtype,
    # how Python 3 writes bytes in protocol 2
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ImclError(f"a pickle asks for {module}.{name}; refused") from None

    def load_binstring(self) -> None:
        """Python 2's text, whose bytes are the pixels."""
        length = int.from_bytes(self.read(4), "little")
        content = self.read(length)
        self.append(content if length > LARGE else content.decode("latin1"))

    def load_binunicode(self) -> None:
        """Python 3's way of writing bytes in protocol 2: as text, each byte a character."""
        length = int.from_bytes(self.read(4), "little")
        if length <= LARGE:
            self.append(self.read(length).decode("utf-8", "surrogatepass"))
            return
        decoder, content = codecs.getincrementaldecoder("utf-8")(), bytearray()
        for start in range(0, length, CHUNK):
            content += decoder.decode(self.read(min(CHUNK, length - start))).encode("latin1")
        decoder.decode(b"", final=True)
        self.append(content)

    dispatch[pickle.BINSTRING[0]] = load_binstring
    dispatch[pickle.BINUNICODE[0]] = load_binunicode
