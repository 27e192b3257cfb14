"""A short form of tests/hostile.py, and that it finds what it looks for."""

import pickle
import random
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pytest
from hostile import FIELDS, Attempt, TooSlow, judge, within

from imcl.data import folder, unpickle
from imcl.errors import ImclError, UsageError

SCRIPT = Path(__file__).resolve().parents[1] / "hostile.py"


def test_hostile_inputs_are_refused_or_harmless():
    """In a process of its own, since it forks: here torch may have threads."""
    command = [sys.executable, str(SCRIPT), "--inputs", "48", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    refused, harmless = (
        int(n) for n in re.findall(r"(?m)^(\d+) (?:refused|harmless)", done.stdout)
    )
    assert refused + harmless == 48
    assert re.search(r"(?m)^0 failed", done.stdout)


def test_every_field_of_the_settings_is_tried():
    places = {".".join(map(str, place)) for place, _ in FIELDS}
    assert {"studies.*.seeds.0", "datasets.*.side", "noise.*.rate", "training.epochs"} <= places
    assert {
        "ways.output.parts",
        "search.candidates.*.0.kernel.weight",
        "claims.ledger.*.figure",
    } <= places


def test_a_message_cannot_act_on_a_terminal():
    assert str(ImclError("a\x1b[2J\u202eb\rc\udcff\nd é 日本")) == (
        "a\\x1b[2J\\u202eb\\rc\\udcff\nd é 日本"
    )
    assert str(pickle.loads(pickle.dumps(UsageError("a\x07")))) == "a\\x07"


def raising(error: BaseException) -> Attempt:
    def read() -> None:
        raise error

    return Attempt("an input", "here.yaml", read)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ImclError("here.yaml: wrong"), "refused"),
        (UsageError("here.yaml: wrong\nhere.yaml: wrong too"), "refused"),
        (ImclError("wrong"), "failed"),  # where?
        (ImclError("here.yaml: \x1b[2J"), "refused"),  # as an escape
        (ImclError("here.yaml: " + "x" * 5000), "failed"),
        (ValueError("here.yaml: wrong"), "failed"),
        (MemoryError(), "failed"),
        (SystemExit(2), "failed"),
    ],
)
def test_only_a_clear_sentence_counts_as_refused(error, kind):
    assert judge(raising(error)).kind == kind


@pytest.mark.parametrize(
    ("reader", "place", "name"),
    [
        (hostile.cifar_10, unpickle._Unpickler, "load"),
        (hostile.pictures, folder.ImageOps, "fit"),
        (hostile.pictures, folder, "_rgb"),
    ],
)
def test_a_reader_that_fills_the_memory_failed(reader, place, name, tmp_path, monkeypatch):
    """Though a fault of any other kind is a damaged file to it."""
    monkeypatch.setattr(place, name, lambda *_: bytearray(10**10))
    monkeypatch.setattr(hostile, "READERS", (reader,))
    found = judge(hostile.archive(tmp_path / "input", random.Random(1)))
    assert found.kind == "failed"
    assert found.note.startswith("MemoryError")


def test_what_hangs_or_fills_the_memory_failed():
    with pytest.raises(TooSlow), within(seconds=0.1):
        time.sleep(10)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), within(seconds=5, megabytes=50):
        bytearray(10**10)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
