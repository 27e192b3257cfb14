"""The ways to install the project: they name the same packages in the same versions."""

import tomllib
from functools import cache
from pathlib import Path

import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# By the names of conda-forge.
NAMES = {
    "ruamel-yaml": "ruamel.yaml",
    "matplotlib": "matplotlib-base",
    "torch": "pytorch",
    "typing-extensions": "typing_extensions",
}
# The engines run outside the rules, grimp only inside Snakemake, and torchvision in benchmarks.
OUTSIDE = {"snakemake", "dvc", "torchvision", "grimp"}


@cache
def lock() -> list[dict]:
    return tomllib.loads((ROOT / "uv.lock").read_text())["package"]


def locked(name: str, python: str) -> str:
    """The version of a package in uv.lock, for Linux with this Python."""
    machine = {"python_full_version": f"{python}.0", "sys_platform": "linux"}
    (version,) = (
        package["version"]
        for package in lock()
        if package["name"] == name
        for markers in [package.get("resolution-markers")]
        if markers is None or any(Marker(marker).evaluate(machine) for marker in markers)
    )
    return Version(version).base_version  # a post-release is the same software


def test_the_conda_environment_pins_what_the_rules_need_as_the_lock_does():
    listed = yaml.safe_load((ROOT / "workflow/envs/imcl.yaml").read_text())["dependencies"]
    pinned = dict(entry.split(" =") for entry in listed)
    python = pinned.pop("python")
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    stated = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["pipeline"]]
    needs = {need.name: need for need in map(Requirement, stated)}
    assert {*needs} > OUTSIDE
    inside = needs.keys() - OUTSIDE
    theirs = {name: NAMES.get(name, name) for name in inside}
    assert pinned == {theirs[name]: locked(name, python) for name in inside}
    for name in inside:
        assert needs[name].specifier.contains(pinned[theirs[name]]), name


def test_the_two_images_are_made_by_the_same_steps():
    """CI takes those of the Containerfile, in a clean folder."""
    envs = ROOT / "workflow/envs"
    lines = (envs / "Containerfile").read_text().splitlines()
    steps = [line.split(" ", 1) for line in lines if line and line[0] != "#"]
    sections: dict[str, list[str]] = {"": []}
    for line in (envs / "imcl.def").read_text().splitlines():
        if line.startswith("%"):
            sections[line] = []
        elif line.strip() and line[0] != "#":
            [*sections.values()][-1].append(line.strip())
    base, *copies, (run, script), (env, variables), _ = steps
    assert f"From: {base[1].split('/')[-1]}" in sections[""]
    copied = [words.split() for step, words in copies if step == "COPY"]
    files = [name.rstrip("/") for *names, _ in copied for name in names]
    assert sections["%files"] == [f"{name} /opt/imcl/{name}" for name in files]
    assert all((ROOT / name).exists() for name in files)
    assert (run, [script]) == ("RUN", sections["%post"])
    exports = [line.removeprefix("export ") for line in sections["%environment"]]
    assert (env, variables) == ("ENV", " ".join(exports))
