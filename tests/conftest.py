"""What the tests share: a copy of the project to run the real engines in."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from imcl import grid, params
from imcl.data import prepare
from imcl.noise import inject

ROOT = Path(__file__).resolve().parent.parent

# Small enough that a cell is mostly start-up. `other` holds cells of `micro` and none of its own.
MICRO = {
    "datasets": ["digits"],
    "noise": ["clean", "n50"],
    "backbones": ["resnet18"],
    "methods": ["base", "kernel", "all"],
    "seeds": [1, 2],
    "width": 4,
    "training": {"epochs": 1, "warmup_epochs": 0, "batch_size": 256, "learning_rate": 0.05},
}

# Runs at the start of every Python below: what it reaches for beyond this machine is refused and
# written down. Hard links are refused too, as some file systems have none.
NO_NETWORK = """
import errno, os, sys

def refuse(event, arguments):
    if event == "os.link":
        raise OSError(errno.EPERM, "a file system without hard links", arguments[0])
    if event == "socket.getaddrinfo" or event == "socket.gethostbyname":
        host = arguments[0]
    elif event == "socket.connect" or event == "socket.sendto":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    else:
        return
    if host not in (None, "", "localhost", "127.0.0.1", "::1"):
        with open(os.environ["REACHED_FOR"], "a") as file:
            file.write(f"{event} {host}: {sys.argv}\\n")
        raise OSError(f"no network in the tests, but {event} {host}")

sys.addaudithook(refuse)
"""


class Project:
    """A copy of the project in a folder of its own, with a git history and real commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.reached_for = folder / ".git/reached-for"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "REACHED_FOR": str(self.reached_for),
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }

    def run(self, *command: str, code: int | None = 0, **environment: str) -> str:
        """Run a command here; its output, errors included. `code` None: any exit code."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert code is None or done.returncode == code, done.stdout[-6000:]
        return done.stdout

    def snakemake(self, *arguments: str, **options) -> str:
        return self.run("snakemake", "--cores", "2", *arguments, **options)

    def params(self) -> dict:
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def change(self, **changes) -> None:
        """Set entries of params.yaml by dotted key (written with __)."""
        loaded = self.params()
        for key, value in changes.items():
            *path, last = key.split("__")
            entry = loaded
            for name in path:
                entry = entry[name]
            entry[last] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))

    def records(self) -> dict[str, float]:
        """The records by name, with the times at which they were written."""
        found = (self.folder / "results/records").glob("*.json")
        return {path.name: path.stat().st_mtime for path in found}

    def trained_by(self, command) -> set[str]:
        """The methods whose records `command` wrote."""
        before = self.records()
        command()
        after = self.records()
        return {name.split("-")[3] for name in after if after[name] != before.get(name)}


def copy_project(folder: Path) -> Project:
    """What git tracks, and what it would, in `folder` as a repository with one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    (folder / "src/sitecustomize.py").write_text(NO_NETWORK)
    project = Project(folder)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    loaded = project.params()
    other = {**MICRO, "noise": ["clean"], "methods": ["base", "kernel"]}
    loaded |= {"study": "micro", "studies": {"micro": MICRO, "other": other}}
    loaded["calibration"] = {"rungs": [], "chosen": {}}
    (folder / "params.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "start")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A copy of the project whose study is `micro`."""
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def micro(tmp_path, monkeypatch) -> dict:
    """A study of seconds, its data prepared, in an empty project folder."""
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    loaded = params.load()
    study = loaded["studies"]["quick"]
    study |= {"seeds": [1, 2], "width": 4}
    study["training"] |= {"epochs": 2, "warmup_epochs": 1, "batch_size": 256}
    cell = grid.cells(loaded)[0]
    prepare.prepare("digits", cell.dataset.config, [], cell.dataset.path)
    _, arrays = prepare.load(cell.dataset.path)
    noisy = next(c for c in grid.cells(loaded) if c.noise)
    inject.inject(noisy.noise.config, arrays, [], noisy.noise.path)
    return loaded


def without_cost(record: dict) -> str:
    return json.dumps({key: value for key, value in record.items() if key != "cost"})
