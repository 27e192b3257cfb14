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
from imcl.project import VARIABLE, Project
from imcl.study.settings import Settings

SOURCE = Path(imcl.__file__).resolve().parents[1]


class Workspace:
    """A project with the rules, templates and archives of another, and no data or results.

    Args:
        folder: an empty one.
        origin: the project whose pipeline is copied.
        settings: for params.yaml.

    Raises:
        ImclError: `origin` holds no pipeline.
    """

    def __init__(self, folder: Path, origin: Project, settings: Settings):
        self.project = Project(folder)
        for name in ("Snakefile", "workflow", "paper"):
            if not (origin.root / name).exists():
                raise ImclError(f"{origin.root / name}: missing; name the project with --project")
        shutil.copy(origin.root / "Snakefile", folder)
        shutil.copytree(origin.root / "workflow", folder / "workflow")
        built = shutil.ignore_patterns(origin.build.name)
        shutil.copytree(origin.paper, self.project.paper, ignore=built)
        (folder / "src").symlink_to(SOURCE)
        if origin.archives.exists():
            self.project.data.mkdir()
            self.project.archives.symlink_to(origin.archives.resolve())
        self.set(settings)

    def set(self, settings: Settings) -> None:
        """Write params.yaml."""
        stated = settings.model_dump(mode="json", exclude_unset=True)
        write_text(self.project.params, yaml.safe_dump(stated, sort_keys=False))

    def seconds(self, *command: str) -> float:
        """The time of `python -m COMMAND` in the folder.

        Raises:
            ImclError: it failed; the message holds the end of its output.
        """
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.project.root,
            env={**os.environ, "PYTHONPATH": str(SOURCE), VARIABLE: ""},
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
def workspace(origin: Project, settings: Settings) -> Iterator[Workspace]:
    """A Workspace that is deleted afterwards; arguments as there."""
    with TemporaryDirectory(prefix="imcl-bench-") as folder:
        yield Workspace(Path(folder), origin, settings)
