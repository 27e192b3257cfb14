"""Opens a pickle safely: it may hold only what the CIFAR format needs.

A pickle can have any function called, so a downloaded pickle is code. This unpickler allows only
the few names that an array is made from, replaces each by a stand-in, and refuses every other name.
So no function of numpy is called with arguments from the pickle.

It extends the unpickler that is written in Python. The one in C copies the pixels of a batch three
times, and CIFAR-100's training set is one string of 154 MB.
"""

import codecs
import pickle
import re
from collections.abc import Callable
from typing import IO, Any, ClassVar, NoReturn

import numpy as np

from imcl.errors import ImclError

LARGE = 1 << 20  # bytes; longer text is pixels and stays bytes
CHUNK = 1 << 20


def unpickle(file: IO[bytes]) -> dict[str, Any]:
    """Read one pickled dict of text, numbers, lists and numpy arrays.

    Raises:
        ImclError: the pickle has another name, or is damaged.
    """
    try:
        value = _Unpickler(file, encoding="latin1").load()
    except (ImclError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise ImclError(f"a damaged pickle: {error}") from error
    if not isinstance(value, dict):
        raise ImclError(f"a pickle of {type(value).__name__}, not of a dict")
    return {key: v.array if isinstance(v, _Array) else v for key, v in value.items()}


class _NdArray:
    """Stands for numpy.ndarray, which a pickle may name but not call.

    The real class, called with a buffer, would read any address.
    """

    def __new__(cls, *arguments: object) -> NoReturn:
        raise ImclError("a pickle calls numpy.ndarray; refused")


class _Dtype:
    """Stands for numpy.dtype: whole numbers and floats only."""

    def __init__(self, code: object, *flags: object):
        if not isinstance(code, str) or not re.fullmatch("[iuf][1248]", code):
            raise ImclError(f"a pickle asks for the data type {code!r}; refused")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|"):
            raise ImclError(f"a pickle asks for the byte order {state[1]!r}; refused")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array, which starts empty and gets its content as its state."""

    array: np.ndarray[Any, Any] = np.empty(0, np.int8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise ImclError("a pickle asks for an array of another kind; refused")
        if isinstance(content, str):
            content = content.encode("latin1")
        flat = np.frombuffer(content, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, shape: object, typecode: object) -> _Array:
    if kind is not _NdArray:
        raise ImclError("a pickle asks for an array of another class; refused")
    return _Array()


def _encode(text: str | bytearray, encoding: str) -> bytes | bytearray:
    if encoding != "latin1":
        raise ImclError(f"a pickle asks for the encoding {encoding!r}; refused")
    return text if isinstance(text, bytearray) else text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    # how numpy pickles an array, under its old and its new module name
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): _Dtype,
    # how Python 3 writes bytes in protocol 2
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle._Unpickler):
    # Set by the base class when it loads.
    read: Callable[[int], bytes]
    append: Callable[[object], None]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Callable[..., object]:
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
        """How Python 3 writes bytes in protocol 2: as text with a character for each byte."""
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
