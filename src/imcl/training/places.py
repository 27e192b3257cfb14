"""Places on the GPUs of a machine, so that several trainings share them without a scheduler.

A training takes a place on the GPU with the fewest trainings that has enough memory left, and waits
if none has. The places are files in a folder of this machine, so Snakemake, DVC, `imcl run` and
commands by hand share them, in whatever project they run. Each is locked by its process. So the
place of a killed process is free at once.
"""

import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imcl.errors import ImclError
from imcl.files import is_locked, locked, read_bytes, write_text

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use.

    Attributes:
        index: of torch.
        name: the same in every process, whichever GPUs it sees.
        bytes: of its memory.
    """

    index: int
    name: str
    bytes: int


@contextmanager
def place(
    gpus: Sequence[Gpu],
    needed: int,
    waiting: Callable[[], object] = lambda: None,
    folder: Path | None = None,
) -> Iterator[Gpu]:
    """Hold a place on one of the GPUs; wait while none has enough memory left.

    A training that needs more than there is gets a GPU for itself.

    Args:
        gpus: at least one.
        needed: bytes of memory that the training may take.
        waiting: called once, if it has to wait.
        folder: of the places (default: one for this user in the folder for temporary files).

    Raises:
        ImclError: the folder belongs to another user.
    """
    folder = folder or _folder()
    mine = folder / f"{os.getpid()}-{time.monotonic_ns()}.lock"
    told = False
    with locked(mine):
        try:
            while (gpu := _taken(gpus, needed, folder, mine)) is None:
                if not told:
                    told = True
                    waiting()
                time.sleep(POLL_SECONDS)
            yield gpu
        finally:
            with locked(folder / "all.lock"):  # else another process may just read it
                mine.with_suffix(".txt").unlink(missing_ok=True)
                mine.unlink(missing_ok=True)


def _taken(gpus: Sequence[Gpu], needed: int, folder: Path, mine: Path) -> Gpu | None:
    """Write down the best GPU as taken by `mine`; None if none has enough memory left."""
    with locked(folder / "all.lock"):
        used: dict[str, list[int]] = {gpu.name: [] for gpu in gpus}
        for path in folder.glob("*.txt"):
            if not is_locked(path.with_suffix(".lock")):  # its process has ended
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
                continue
            name, size = read_bytes(path).decode().split()
            used.setdefault(name, []).append(int(size))
        free = [
            gpu for gpu in gpus if not used[gpu.name] or sum(used[gpu.name]) + needed <= gpu.bytes
        ]
        if not free:
            return None
        best = min(free, key=lambda gpu: (len(used[gpu.name]), sum(used[gpu.name]), gpu.index))
        write_text(mine.with_suffix(".txt"), f"{best.name} {needed}")
        return best


def _folder() -> Path:
    folder = Path(tempfile.gettempdir(), f"imcl-places-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise ImclError(f"{folder}: belongs to another user; set TMPDIR to a folder of your own")
    return folder
