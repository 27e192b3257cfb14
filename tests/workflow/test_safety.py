"""Nothing of params.yaml or of a folder's name reaches a shell; nothing reaches for the network."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import MICRO, check_out
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = """ä b'c"d $(touch pwned) `touch pwned`; touch pwned & touch pwned | touch pwned"""

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The project in a folder whose name is a command, with pictures in another such folder."""
    folder = tmp_path_factory.mktemp("safety") / HOSTILE
    folder.mkdir()
    checkout = check_out(folder)
    for split in ("train", "test"):
        for number, name in enumerate(("cat", HOSTILE)):
            place = folder / HOSTILE / split / name
            place.mkdir(parents=True)
            for index in range(8):
                pixels = np.full((8, 8, 3), 40 * number + index, np.uint8)
                Image.fromarray(pixels).save(place / f"{index} $(touch pwned).png")
    picture = {"source": "folder", "path": HOSTILE, "side": 8, "padding": 1, "flip": True}
    one = {**MICRO, "datasets": ["mine"], "methods": ["elr+kernel"], "seeds": [1]}
    one["training"] = {**MICRO["training"], "batch_size": 4}
    checkout.change(datasets__mine=picture, studies__micro=one)
    return checkout


@pytest.fixture(scope="module")
def fetching(hostile):
    """A download, started early since it tries again and again, and what it reached for."""
    reached_for = hostile.folder / ".git/reached-for-by-fetch"
    return hostile.start("imcl", "fetch", "cifar100", REACHED_FOR=str(reached_for)), reached_for


def test_names_that_are_commands_are_only_names(hostile, fetching):
    hostile.snakemake("--workflow-profile", "workflow/profiles/default")
    hostile.run("dvc", "repro")
    assert len(hostile.records()) == 2
    assert (hostile.folder / "paper/build/tables/accuracy-mine.md").exists()
    assert not [*hostile.folder.rglob("pwned"), *hostile.folder.parent.glob("pwned")]


def test_a_run_reaches_for_no_network(hostile):
    # What came before trained a study through both engines.
    reached = hostile.reached_for
    assert not reached.exists(), reached.read_text()


def test_fetch_alone_reaches_for_the_network(fetching):
    process, reached_for = fetching
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "no network in the tests" in output
    assert "www.cs.toronto.edu" in reached_for.read_text()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study", HOSTILE),
        ("studies", {HOSTILE: MICRO}),
        ("studies__micro__datasets", [HOSTILE]),
        ("studies__micro__noise", [HOSTILE]),
        ("studies__micro__backbones", [HOSTILE]),
        ("studies__micro__methods", [HOSTILE]),
        ("datasets", {HOSTILE: {"source": "digits", "padding": 1, "flip": False}}),
        ("datasets__digits__source", HOSTILE),
        ("noise", {HOSTILE: {"kind": "symmetric", "rate": 0.5, "noise_seed": 0}}),
        ("noise__n50__kind", HOSTILE),
        ("studies__micro__seeds", [HOSTILE]),
        ("studies__micro__width", HOSTILE),
    ],
)
def test_a_command_in_the_place_of_a_name_is_refused(checkout, key, value):
    before = (checkout.folder / "params.yaml").read_text()
    checkout.change(**{key: value})
    try:
        output = checkout.run("imcl", "plan", code=2)
    finally:
        (checkout.folder / "params.yaml").write_text(before)
    assert "Traceback" not in output
    assert output.startswith(f"params.yaml: {key.replace('__', '.')[:5]}")


def test_a_command_as_the_chosen_study_is_refused(checkout):
    checkout.snakemake("--config", "study='$(touch pwned)'", code=1)
    assert not list(checkout.folder.rglob("pwned"))


def test_all_that_a_rule_puts_into_a_command_is_quoted():
    commands = [
        line
        for rules in sorted((ROOT / "workflow/rules").glob("*.smk"))
        for block in re.findall(r"^ +shell:\n((?: +\".*\"\n?)+)", rules.read_text(), re.M)
        for line in block.splitlines()
    ]
    assert len(commands) >= 7
    for name in re.findall(r"{([^{}]*)}", "".join(commands)):
        assert name.endswith(":q") or name == "threads", name  # a number that Snakemake chose
