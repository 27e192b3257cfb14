"""The version of this package's code, for records and checkpoints."""

import hashlib
import re
import subprocess
from pathlib import Path

import imcl
from imcl.records.record import Code

SOURCE = Path(imcl.__file__).parent


def code() -> Code:
    """The version of the code, and its commit in a git checkout."""
    changes = _git("status", "--porcelain", "--", ".")
    return {
        "version": imcl.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "modified": None if changes is None else bool(changes),
    }


def source_sha256() -> str:
    """A SHA-256 of this package's source, without its comments and blank lines."""
    lines = b"\n".join(path.read_bytes() for path in sorted(SOURCE.rglob("*.py")))
    return hashlib.sha256(re.sub(rb"\s*(#.*)?$", b"", lines, flags=re.M)).hexdigest()


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(SOURCE), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
