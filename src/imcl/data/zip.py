"""Opens a zip archive, and gives each way in which it can be damaged one sentence."""

import errno
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imcl.data.tar import LARGEST_MEMBER
from imcl.errors import ImclError


@contextmanager
def opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, to be read inside this context.

    Raises:
        ImclError: it is damaged or encrypted, is packed in a way that Python does not know, or
            would unpack to more than any official file.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                if member.file_size > LARGEST_MEMBER:
                    raise ImclError(f"{archive}: {member.filename!r} unpacks to more than 2 GB")
            yield file
    except NotImplementedError as error:  # a RuntimeError as well
        raise ImclError(f"{archive}: cannot be unpacked: {error}; pack it as deflate") from None
    except RuntimeError as error:
        raise ImclError(f"{archive}: cannot be unpacked: {error}") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise ImclError(f"{archive}: not a readable zip archive: {error}") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL) and archive.exists():  # it is the disk's fault
            raise
        raise ImclError(f"{archive}: not a readable zip archive: {error}") from None
