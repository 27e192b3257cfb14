"""Typesets paper/build/paper.pdf with latexmk."""

import shutil
import subprocess
from pathlib import Path

from imcl.errors import ImclError
from imcl.files import read_bytes
from imcl.project import Project

HINT = (
    "latexmk is not installed, so there is no PDF; everything else is built. On Debian: "
    "apt-get install texlive-latex-recommended lmodern latexmk"
)


def can_build() -> bool:
    """Whether latexmk is installed."""
    return shutil.which("latexmk") is not None


def write(project: Project) -> Path:
    """Typeset paper/main.tex. If that fails or is interrupted, there is no PDF.

    Raises:
        ImclError: latexmk is missing or failed; the message holds the first errors of its log.
    """
    if not can_build():
        raise ImclError(HINT)
    command = [
        "latexmk",
        "-pdf",
        "-g",  # otherwise it does not try again what failed or was interrupted
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-bibfudge-",  # from its own folder BibTeX would need the whole path, with any signs in it
        f"-outdir={project.build.name}",
        "-jobname=paper",
        "main.tex",
    ]
    made = project.build / "paper.pdf"
    try:
        done = subprocess.run(
            command, cwd=project.paper, capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            log = project.build / "paper.log"
            lines = read_bytes(log).decode(errors="replace").splitlines() if log.exists() else []
            faults = [line for line in lines if line.startswith(("!", "l."))]
            raise ImclError(f"{log}: " + " ".join(faults[:4] or [done.stderr.strip()]))
    except BaseException:
        made.unlink(missing_ok=True)  # an older one, or a first pass without its references
        raise
    return made
