"""What the tests share: checkouts of the project, in which the real engines run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

# Two workers share two cores: with more threads they wait for each other. Read when torch starts.
os.environ["OMP_NUM_THREADS"] = "1"
# Workers are told to be 80 columns wide; what is printed into a pipe has no width.
os.environ.pop("COLUMNS", None)

import pytest
import yaml
from filelock import FileLock

from imcl.data import prepare
from imcl.noise import inject
from imcl.project import Project
from imcl.study import grid
from imcl.study.load import load
from imcl.study.settings import Settings

ROOT = Path(__file__).resolve().parent.parent

# If a shell starts the tests in the background, they ignore SIGINT, under nohup SIGHUP too, and so
# does every process that they start. Tests send both and expect them to work as in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Small enough that a cell is mostly start-up. The study `other` holds cells of `micro` only.
MICRO: dict[str, Any] = {
    "datasets": ["digits"],
    "noise": ["clean", "n50"],
    "backbones": ["resnet18"],
    "methods": ["base", "kernel", "all"],
    "seeds": [1, 2],
    "width": 4,
    "training": {"epochs": 1, "warmup_epochs": 0, "batch_size": 256, "learning_rate": 0.05},
}
OTHER = {**MICRO, "noise": ["clean"], "methods": ["base", "kernel"]}

# Runs at the start of every Python in a checkout. It refuses and writes down every attempt to
# reach beyond this machine, and it refuses hard links, which some file systems do not have. It also
# writes down which modules of imcl each command loads.
SITE = """
import atexit, errno, os, sys

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

def write_loaded():
    if os.path.basename(sys.argv[0]) in ("imcl", "__main__.py") and len(sys.argv) > 1:
        with open(f"{os.environ['LOADED']}/{os.path.basename(sys.argv[1])}", "w") as file:
            file.writelines(f"{name}\\n" for name in sys.modules if name.split(".")[0] == "imcl")

sys.addaudithook(refuse)
atexit.register(write_loaded)
"""


# The files with the longest tests. They start first, so that all workers end at about the same
# time.
LONGEST = (
    "test_archives.py",
    "test_engines.py",
    "test_storm.py",
    "test_reuse.py",
    "test_dependencies.py",
    "test_paper.py",
    "test_run.py",
    "test_benches.py",
    "test_safety.py",
    "test_recipes.py",
    "test_interrupted.py",
    "test_places.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [*LONGEST, item.path.name].index(item.path.name))


class Checkout:
    """A copy of the project in its own folder, with a git history and real commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.reached_for = folder / ".git/reached-for"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "PYTHONDONTWRITEBYTECODE": "",  # otherwise every process compiles all its imports
            "REACHED_FOR": str(self.reached_for),
            "LOADED": str(folder / ".git/loaded"),
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command here; its output holds its errors too."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, code: int | None = 0, **environment: str) -> str:
        """Run a command here; its output, errors included. `code` None: any exit code."""
        process = self.start(*command, **environment)
        output, _ = process.communicate()
        assert code is None or process.returncode == code, output[-6000:]
        return output

    def snakemake(self, *arguments: str, code: int | None = 0, **environment: str) -> str:
        return self.run("snakemake", "--cores", "2", *arguments, code=code, **environment)

    def repro(self) -> str:
        return self.run("dvc", "repro")

    def tables(self, *arguments: str) -> str:
        """Run Snakemake up to the tables; the slowest steps are left out."""
        return self.snakemake("records", "summary", "claims", "tables", *arguments)

    def commit(self, message: str = "change") -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def clone(self, folder: Path) -> "Checkout":
        """What is committed here, in another folder."""
        self.run("git", "clone", "--quiet", ".", str(folder))
        (folder / ".git/loaded").mkdir()
        return Checkout(folder)

    def copy(self, folder: Path) -> "Checkout":
        """Everything that is here, with its dates, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder)

    def params(self) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((self.folder / "params.yaml").read_text())
        return loaded

    def change(self, **changes: object) -> None:
        """Set entries of params.yaml by dotted key (written with __)."""
        loaded = self.params()
        for key, value in changes.items():
            *path, last = key.split("__")
            entry = loaded
            for name in path:
                entry = entry.setdefault(name, {})
            entry[last] = value
        self.set_params(loaded)

    def set_params(self, loaded: dict[str, Any]) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))

    def records(self) -> dict[str, float]:
        """The records by name, with the times at which they were written."""
        found = (self.folder / "results/records").glob("*.json")
        return {path.name: path.stat().st_mtime for path in found}

    def trained_by(self, command: Callable[[], object]) -> set[str]:
        """The methods whose records `command` wrote."""
        before = self.records()
        command()
        after = self.records()
        return {name.split("-")[3] for name in after if after[name] != before.get(name)}

    def first(self, engine: str) -> dict[str, Any]:
        """What an engine printed and trained when it first ran in a finished checkout."""
        found: dict[str, Any] = json.loads((self.folder / f".git/first-{engine}.json").read_text())
        return found

    def loaded(self, command: str) -> set[str]:
        """The modules that `imcl COMMAND` loaded when it ran here last."""
        return {*(self.folder / ".git/loaded" / command).read_text().split()}


def planned(dry_run: str) -> Counter[str]:
    """The methods that a dry run of Snakemake would train, with the number of their cells."""
    return Counter(re.findall(r"Job \d+: train \w+-\w+-\w+-([\w+]+)-", dry_run))


def check_out(folder: Path, own_studies: bool = False) -> Checkout:
    """The files that git tracks or would track, in `folder` as a repository with one commit.

    Its study is `micro`, unless it is to keep the project's own studies.
    """
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
    (folder / "src/sitecustomize.py").write_text(SITE)
    made = Checkout(folder)
    made.run("git", "init", "--quiet", "--initial-branch=main")
    (folder / ".git/loaded").mkdir()
    if not own_studies:
        loaded = made.params()
        loaded |= {"study": "micro", "studies": {"micro": MICRO, "other": OTHER}}
        made.set_params(loaded)
    made.commit("start")
    return made


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the project whose study is `micro`."""
    return check_out(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the project with its own studies."""
    return check_out(tmp_path_factory.mktemp("original"), own_studies=True)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose study both engines have run, made by the first worker that wants it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers share
    place = folder / "finished"
    with FileLock(folder / "finished.lock"):
        if not place.exists():
            made = check_out(folder / "unfinished")
            reproduce = partial(made.run, "imcl", "reproduce")  # as `make reproduce` does
            for engine, command in (("snakemake", reproduce), ("dvc", made.repro)):
                output: list[str] = []
                trained = made.trained_by(lambda: output.append(command()))  # noqa: B023
                first = {"output": output[0], "trained": sorted(trained)}
                (made.folder / f".git/first-{engine}.json").write_text(json.dumps(first))
            made.folder.rename(place)
    return Checkout(place)


@pytest.fixture(scope="module")
def finished(finished_once: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the finished checkout, for the tests of a module to change."""
    return finished_once.copy(tmp_path_factory.mktemp("finished") / "checkout")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project like `micro`, to be copied."""
    project = Project(tmp_path_factory.mktemp("digits"))
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    quick = raw["studies"]["quick"]
    quick.pop("chosen", None)
    quick |= {"seeds": [1, 2], "width": 4}
    quick["training"] |= {"epochs": 2, "warmup_epochs": 1, "batch_size": 64}
    raw["datasets"]["digits"] |= {"train_size": 320, "subset_seed": 0}
    project.params.write_text(yaml.safe_dump(raw, sort_keys=False))
    cell = grid.find(load(project.params), "digits-n50-resnet18-base")
    assert cell.noise
    prepare.prepare(project, cell.dataset)
    inject.inject(project, cell.noise)
    return project.root


@pytest.fixture
def micro(digits: Path, tmp_path: Path) -> tuple[Project, Settings]:
    """A project with a study that trains in seconds, and its prepared data."""
    shutil.copytree(digits, tmp_path, dirs_exist_ok=True)
    project = Project(tmp_path)
    return project, load(project.params)


def without_cost(record: Mapping[str, object]) -> str:
    return json.dumps({key: value for key, value in record.items() if key != "cost"})
