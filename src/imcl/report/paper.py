"""Builds paper/build/paper.pdf with latexmk."""

import shutil
import subprocess
from pathlib import Path

from imcl.errors import ImclError
from imcl.report import BUILD

HINT = (
    "latexmk is not installed, so there is no PDF; all else is built. On Debian: "
    "apt-get install texlive-latex-recommended lmodern latexmk"
)


def can_build() -> bool:
    """Whether TeX is here."""
    return shutil.which("latexmk") is not None


def write() -> Path:
    """Typeset paper/main.tex.

    Raises:
        ImclError: TeX is missing or found a fault; the message holds its first lines.
    """
    if not can_build():
        raise ImclError(HINT)
    command = [
        "latexmk",
        "-pdf",
        "-interaction=nonstopmode",
        "-halt-on-error",
        f"-outdir={BUILD.name}",
        "-jobname=paper",
        "main.tex",
    ]
    made = subprocess.run(
        command, cwd=BUILD.parent, capture_output=True, text=True, errors="replace"
    )
    if made.returncode:
        log = BUILD / "paper.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        faults = [line for line in lines if line.startswith(("!", "l."))] or [made.stderr.strip()]
        raise ImclError(f"{log}: " + " ".join(faults[:4]))
    return BUILD / "paper.pdf"
