"""The package as others install it: the library alone, in an environment of its own, offline."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import SITE

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
MOST = 40  # packages
NOT_KEPT = "wasn't found in the cache"  # what uv says offline

THREE_LINES = """
import imcl
import torch
from torch import nn

model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
)
images, labels = torch.randn(4, 3, 16, 16), torch.arange(4)

collaboration = imcl.Collaboration(model, ways=["output", "kernel"])
logits, loss, terms = collaboration(images, labels)
loss.backward()

assert logits.shape == (4, 10) and [*terms] == ["cross_entropy", "output", "kernel"]
assert all(weight.grad.isfinite().all() for weight in model.parameters())
"""
EVERY_WAY = """
import pkgutil
from importlib import import_module

import imcl.baselines, imcl.models, imcl.ways

for package in (imcl.baselines, imcl.models, imcl.ways):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
model = imcl.models.resnet18.build(10, width=4)
views = [*torch.randn(2, 4, 3, 16, 16)]
logits, loss, terms = imcl.Collaboration(model, ["all"])(views, labels)
print(imcl.__file__, *terms)
"""


class Installed(NamedTuple):
    """The wheel in an environment of its own.

    Attributes:
        folder: of the environment.
        packages: the lines of `uv pip freeze`.
    """

    folder: Path
    packages: list[str]

    def run(self, name: str, *arguments: str, code: int = 0) -> str:
        """Run a program of the environment, outside the checkout; its output, errors included."""
        environment = {**os.environ, "LOADED": str(self.folder), "REACHED_FOR": os.devnull}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [str(self.folder / "bin" / name), *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, done.stdout
        return done.stdout


def uv(*arguments: str, **environment: str) -> str:
    """What uv prints, offline: what it needs is what `make environment` has left in its cache."""
    done = subprocess.run(
        [UV, *arguments, "--offline", "--quiet"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if NOT_KEPT in done.stderr:
        pytest.skip(f"uv's cache has been emptied since it made the environment: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel made from it."""
    folder = tmp_path_factory.mktemp("built")
    uv("build", "--out-dir", str(folder))
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel with what it requires, by uv's resolver, in the versions of uv.lock."""
    folder = tmp_path_factory.mktemp("installed")
    python = ("--python", sys.executable)
    locked = ("sync", "--frozen", "--no-dev", "--no-install-project", *python)
    uv(*locked, UV_PROJECT_ENVIRONMENT=str(folder))
    (wheel,) = built.glob("*.whl")
    uv("pip", "install", "--python", str(folder), str(wheel))
    paths = {"base": str(folder), "platbase": str(folder)}
    Path(sysconfig.get_path("purelib", "venv", paths), "sitecustomize.py").write_text(SITE)
    return Installed(folder, uv("pip", "freeze", "--python", str(folder)).splitlines())


def test_the_distributions_hold_every_file_of_the_package(built):
    tracked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/imcl"]
    listed = subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {name.removeprefix("src/") for name in listed.splitlines() if (ROOT / name).exists()}
    assert "imcl/py.typed" in files
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    assert {name for name in names if ".dist-info/" not in name} == files
    with tarfile.open(source) as archive:
        names = [member.name.partition("/")[2] for member in archive if member.isfile()]
    assert {name.removeprefix("src/") for name in names if name.startswith("src/")} == files
    assert {"LICENSE", "README.md", "pyproject.toml"} <= {*names}


def test_the_library_is_few_packages(installed):
    names = {line.split("==")[0].split(" @")[0] for line in installed.packages}
    assert {"imcl", "numpy", "torch"} <= names
    assert len(names) <= MOST, sorted(names)
    assert not names & {"dvc", "matplotlib", "snakemake", "torchvision"}


def test_the_three_lines_every_way_and_every_baseline_run(installed):
    place, *terms = installed.run("python", "-c", THREE_LINES + EVERY_WAY).split()
    assert Path(place).is_relative_to(installed.folder)
    assert terms == ["cross_entropy", "output", "intermediate", "representation", "kernel"]


@pytest.mark.parametrize("command", ["plan", "train"])
def test_a_command_says_what_to_install(installed, command):
    arguments = ["cell"] if command == "train" else []
    (line,) = installed.run("imcl", command, *arguments, code=1).splitlines()
    assert line.startswith("imcl: the commands need more packages than the library, and ")
    assert line.endswith(" is missing; run pip install 'imcl[pipeline]'")
