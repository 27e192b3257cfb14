"""A copy of the project's pipeline in a folder of its own, so that a run starts from nothing."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

import imcl
from imcl.errors import ImclError
from imcl.files import write_text
from imcl.grid import ARCHIVES

SOURCE = Path(imcl.__file__).parents[1]


class Project:
    """A folder with Snakefile, rules, templates and parameters, and no data or results."""

    def __init__(self, folder: Path, params: dict):
        self.folder = folder
        root = Path.cwd()
        for name in ("Snakefile", "workflow", "paper"):
            if not (root / name).exists():
                raise ImclError(f"{name}: not here; run this in the project's folder")
        shutil.copy(root / "Snakefile", folder)
        shutil.copytree(root / "workflow", folder / "workflow")
        shutil.copytree(root / "paper", folder / "paper", ignore=shutil.ignore_patterns("build"))
        (folder / "src").symlink_to(SOURCE)
        if ARCHIVES.exists():
            (folder / ARCHIVES.parent).mkdir()
            (folder / ARCHIVES).symlink_to(ARCHIVES.resolve())
        self.set(params)

    def set(self, params: dict) -> None:
        """Write params.yaml."""
        write_text(self.folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))

    def seconds(self, *command: str) -> float:
        """The time of `python -m COMMAND` in the folder.

        Raises:
            ImclError: it failed; the message holds the end of its output.
        """
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        spent = time.perf_counter() - begun
        if done.returncode:
            output = (done.stdout + done.stderr)[-2000:]
            raise ImclError(
                f"{' '.join(command)} failed with exit code {done.returncode}:\n{output}"
            )
        return spent

    def snakemake(self, cores: int, *arguments: str) -> float:
        """The time of a Snakemake run."""
        profile = ("--workflow-profile", "workflow/profiles/default")
        return self.seconds("snakemake", *profile, "--cores", str(cores), *arguments)


@contextmanager
def project(params: dict) -> Iterator[Project]:
    """A Project that is gone afterwards."""
    with TemporaryDirectory(prefix="imcl-bench-") as folder:
        yield Project(Path(folder), params)
