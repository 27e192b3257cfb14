"""Whatever params.yaml holds: a valid plan, or an error that names the place. Never a traceback."""

import copy
import os
import re
import socket
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import PIECES, within
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imcl.errors import UsageError
from imcl.study import grid, methods
from imcl.study.load import checked, load
from imcl.study.options import BASELINES, DEFAULT, WAYS
from imcl.study.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
COMMITTED: dict[str, Any] = yaml.safe_load(TEXT)

# The committed parameters with every default stated, so that each option is a place to change.
DEFAULTS = checked(COMMITTED, Path("params.yaml"))
FULL: dict[str, Any] = copy.deepcopy(COMMITTED)
for section in ("ways", "baselines", "training"):
    FULL[section] = getattr(DEFAULTS, section).model_dump()
FULL["claims"] |= DEFAULTS.claims.model_dump(include={"evidence", "full_size"})

# A line of the error: file, then line and column of the text, or a key path; none for the root.
LINE = re.compile(r"params\.yaml: (?:(?P<path>.*?): )?(?P<what>.+)")

several = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,  # what fails once, fails again
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
few = settings(several, max_examples=10)  # each reads the whole file; tests/hostile.py tries more


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "params.yaml"


def loaded(path: Path, text: str | bytes) -> Settings | list[re.Match[str]]:
    """What the text gives as params.yaml: the settings, or the lines of the error."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        return load(path)
    except UsageError as error:
        lines = str(error).replace(str(path), path.name).splitlines()
        assert all(len(line) < 600 for line in lines)
        matches = [LINE.fullmatch(line) for line in lines]
        assert all(matches), lines
        return [match for match in matches if match]


def faults_of(path: Path, text: str | bytes) -> list[re.Match[str]]:
    found = loaded(path, text)
    assert isinstance(found, list)
    return found


def paths(node: object, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [where, *(path for key, child in children for path in paths(child, (*where, key)))]


def dotted(where: tuple[str | int, ...]) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where)
    return text.lstrip(".")


def check_plan(text: str, settings: Settings) -> None:
    """The settings are those of the text, every one, and each study has its cells."""
    raw = yaml.safe_load(text)
    assert settings.model_dump(exclude_unset=True) == raw
    everything = settings.model_dump()
    for study, whole in raw["studies"].items():
        planned = {}
        for block in whole.get("blocks", [{}]):
            plan = whole | block
            sixteen = {"combinations": methods.combined()}
            named = [name for m in plan["methods"] for name in sixteen.get(m, [m])]
            axes = (plan["datasets"], plan["noise"], plan["backbones"], named)
            training = whole.get("training", {}) | block.get("training", {})
            own = {"training": training, "ways": [whole.get("ways", {}), block.get("ways", {})]}
            planned |= dict.fromkeys(map("-".join, product(*axes)), plan | own)
        cells = {cell.name: cell for cell in grid.cells(settings, study)}
        assert [*cells] == [*planned]
        for name, plan in planned.items():
            cell, config = cells[name], cells[name].config
            assert config["seeds"] == sorted(plan["seeds"])
            chosen = whole.get("chosen", {})
            parts = methods.parse(cell.method).parts
            cells_of = ["-".join([*cell.setting, of]) for of in ["base", *parts, cell.method]]
            layers = [chosen[of]["options"] for of in cells_of if of in chosen]
            training = everything["training"] | plan["training"]
            for layer in layers:
                training |= layer.get("training", {})
            assert config["training"] == training
            assert config["backbone"]["width"] == plan["width"]
            entry = raw["datasets"][cell.dataset.name]
            assert config["dataset"] == {"name": cell.dataset.name} | entry
            for way, options in config["ways"].items():
                if cell.method == "default":  # whatever the file says
                    assert options == WAYS[way](**DEFAULT[way]).used()
                    continue
                own = {}
                for overrides in plan["ways"]:
                    own |= overrides.get(config["noise"]["name"], {}).get(way, {})
                for layer in layers:
                    own |= layer.get(way, {})
                assert options.items() <= (everything["ways"][way] | own).items()
            if cell.baseline:
                name, _ = cell.baseline
                against = {"name": name} | everything["baselines"][name]
                for layer in layers:
                    against |= layer.get(name, {})
                assert config["baseline"] == against


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(["no", "1e-3", "base", "all", "clean", "digits", "../..", "$(id)", "größe"]),
    st.sampled_from([*WAYS, *BASELINES]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def test_no_message_holds_what_cannot_be_shown(path):
    changed = copy.deepcopy(COMMITTED)
    changed["datasets"]["\r"] = changed["datasets"].pop("imagenet32")
    changed["datasets"]["\u2028"] = {}
    candidates = changed["search"]["candidates"]
    candidates["\x1e"] = candidates.pop("kernel")
    faults = [match.group() for match in faults_of(path, yaml.safe_dump(changed))]
    assert any(r"known: \r, cifar10" in fault for fault in faults)
    assert any(r"unknown method '\x1e'" in fault for fault in faults)
    assert all(fault.isprintable() for fault in faults)


@few
@given(st.data())
def test_any_value_in_any_place(path, data):
    changed = copy.deepcopy(FULL)
    *parents, key = data.draw(st.sampled_from(paths(FULL)[1:]))
    node = changed
    for parent in parents:
        node = node[parent]
    action = data.draw(st.sampled_from(["replace", "delete", "rename", "add"]))
    value = data.draw(values)
    if action == "replace":
        node[key] = value
    elif action == "delete":
        del node[key]
    elif isinstance(node, list):
        node.append(value)
    elif action == "rename":
        node[data.draw(st.text(max_size=8))] = node.pop(key)
    else:
        node[data.draw(st.text(max_size=8))] = value
    text = yaml.safe_dump(changed, allow_unicode=True)
    found = loaded(path, text)
    if isinstance(found, Settings):
        check_plan(text, found)
        return
    # The place that was changed is named, or one that refers to it.
    where = (*parents, key)
    place, head = dotted(tuple(parents)), str(where[0])
    for fault in (match["path"] or "" for match in found):
        if line := re.match(r"line (\d+), column", fault):  # what YAML cannot read
            wrong = text.splitlines()[int(line[1]) - 1].split()[-1]
            assert wrong in yaml.safe_dump(value, allow_unicode=True)
            continue
        near = fault.startswith(place) or place.startswith(fault)
        study = dotted(where[:2])
        named_in = {
            "studies": ("study", "search.", f"{study}.anchors", f"{study}.ways"),
            "noise": ("studies.", "claims."),
            "datasets": ("studies.", "search.", "claims."),
            "search": ("studies.", "search."),
        }
        refers = fault.startswith(named_in.get(head, "studies."))
        # An anchor is one mapping for all studies that name it.
        shared = {"training", "ways", "methods"} & {head, *map(str, parents)}
        assert near or refers or shared, (place, key, fault)


@several
@given(st.text(max_size=200) | st.binary(max_size=200))
@example("\x00")
@example("a: \x07")
@example("? [a]\n: b")
@example("? &a {? *a : b}\n: c")
@example("%YAML 3.0\n---\n{}")
@example("--- a\n--- b")
@example("a: !!timestamp x")
@example("a: !!binary é")
@example("a: !!int ''")
@example("a: !!int _")
@example("a: !!float ''")
@example("!!int ''")
@example("[!!int +]")
@example("!!int '': 1")
@example("=: 1")
@example("<<: 1")
@example("<<: [1]")
@example("!!set {a, b}")
@example("!!omap [a: 1]")
@example("!!python/object/apply:os.system ['true']")
@example("a: *b")
@example("- \xff")
@example(b"\xff\xfea\x00")
def test_any_text(path, text):
    assert faults_of(path, text)  # no text this short holds all that is needed


@few
@given(st.data())
def test_any_edit_of_the_committed_text(path, data):
    at = data.draw(st.integers(0, len(TEXT) - 1))
    length = data.draw(st.integers(0, 20))
    piece = data.draw(st.sampled_from(PIECES) | st.text(max_size=6))
    edited = TEXT[:at] + piece + TEXT[at + length :]
    found = loaded(path, edited)
    if isinstance(found, Settings):
        check_plan(edited, found)


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1, old
    return TEXT.replace(old, new)


QUICK = "    methods: [base, output, intermediate, representation, kernel, all, default]"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nstudy: quick", "\nstudy: quick\nstudy: cpu", r": line \d+, .*'study' appears twice"),
        (
            QUICK,
            "    methods: [base, no]",
            r": studies\.quick\.methods\[1\]: False is not a text; YAML takes yes, no, on and off",
        ),
        ("\nstudy: quick", "\nstudy: on", r": study: True is not a text; YAML takes yes, no, on"),
        ("  n20: {kind", "  off: {kind", r": line \d+, column 3: the key False is not a text"),
        ("seeds: [1, 2, 3, 4, 5]", "seeds: [010]", r"column 13: YAML may read '010'"),
        ("seeds: [1, 2, 3, 4, 5]", "seeds: [1:30]", r"YAML may read '1:30' as a different number"),
        ("seeds: [1, 2, 3, 4, 5]", "seeds: [1e0]", r"seeds\[0\]: '1e0' is not .*write 1 without"),
        (
            "\ntraining: {}",
            "\ntraining:\n  momentum: 0.9\n  weight_decay: 5e-4",
            r"training\.weight_decay: .*write 0.000",
        ),
        (
            "\ntraining: {}",
            "\ntraining:\n  epochs: 0x" + "f" * 5000,
            r"column 11: .*: a number larger than",
        ),
        (
            "\ntraining: {}",
            "\ntraining:\n  epochs: " + "9" * 5000,
            r"line \d+, column 11: YAML cannot read this",
        ),
        ("\ntraining: {}", "\ntraining:\n\tepochs: 200", r"line \d+, column 1: .*'\\t'"),
        ("  digits: {source", "  größe: {source", r"datasets: 'größe' is not a valid name"),
        ("  digits: {source", "  " + "d" * 41 + ": {source", r"datasets: 'd+' is longer than 40"),
        (
            "  digits: {source",
            '  "digits\\n": {source',
            r"datasets: the key 'digits\\n' contains a",
        ),
        ("study: quick", 'study: "quick\\0"', r"study: 'quick\\x00' contains a control character"),
        ("study: quick", "study: " + "q" * 5000, r"study: unknown study 'q{70,80}\.\.\.; known"),
    ],
)
def test_a_trap(path, old, new, message):
    [fault, *_] = faults_of(path, changed(old, new))
    assert re.search(message, fault.string), fault.string


def test_anchors_and_merges_are_read_as_yaml_means_them(path):
    text = changed(
        "  n20: {kind: symmetric, rate: 0.2, noise_seed: 0}",
        "  n20: &n20 {kind: symmetric, rate: 0.2, noise_seed: 0}\n  n21: {<<: *n20, rate: 0.21}",
    )
    found = loaded(path, text)
    assert isinstance(found, Settings)
    n21 = found.noise["n21"].model_dump(exclude_unset=True)
    assert n21 == {"kind": "symmetric", "rate": 0.21, "noise_seed": 0}
    check_plan(text, found)


def test_anchors_that_multiply_are_refused_before_they_are_expanded(path):
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)]
    [fault] = faults_of(path, "a0: &a0 [x]\n" + "\n".join(levels))
    assert fault["what"].startswith("more than 20,000 keys and values")


@pytest.mark.parametrize("width", [2, 9, 100])
def test_merges_that_multiply_are_refused_before_they_are_expanded(path, width):
    """Nine merges of nine merges of nine ...: YAML would copy 9 ** 9 keys into one mapping."""
    levels = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * width)}]}}" for i in range(1, 20)]
    with within(seconds=5):
        [fault] = faults_of(path, "a0: &a0 {x: 1}\n" + "\n".join(levels))
    assert fault["what"].startswith("more than 20,000 keys and values")


def test_a_long_text_that_anchors_repeat_is_refused_before_it_is_copied(path):
    """Each message would show it: a list of 9,000 copies of 100,000 letters is 900 MB."""
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 9000)}]"
    with within(seconds=5, megabytes=200):
        [fault] = faults_of(path, text)
    assert fault["what"].startswith("more than 20,000 keys and values")


def test_an_anchor_inside_itself_is_named(path):
    [fault] = faults_of(path, "studies:\n  quick: &q [1, *q]")
    assert fault.string.endswith("line 2, column 17: the anchor 'q' contains itself")


def test_a_chain_of_anchors_is_no_traceback(path):
    links = [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 150)]
    assert faults_of(path, "a0: &a0 [x]\n" + "\n".join(links))


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(path, kind, monkeypatch):
    """A pipe without a writer would make us wait for ever."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # since a socket's path must be short
        socket.socket(socket.AF_UNIX).bind(path.name)
    else:
        path = Path("/dev/zero")
    with within(seconds=5), pytest.raises(UsageError, match=rf"^{path}: (not a file|cannot be)"):
        load(path)


def test_a_file_of_10_mb_is_refused_unread(path):
    [fault] = faults_of(path, "# " + "x" * 10_000_000)
    assert fault["what"].startswith("larger than 200,000 bytes")


@pytest.mark.parametrize("depth", [50, 200, 5000])
@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_deep_nesting(path, depth, opening):
    closing = {"[": "]", "{a: ": "}"}[opening]
    assert faults_of(path, opening * depth)
    text = opening * depth + closing * depth
    assert faults_of(path, changed("\ntraining: {}", f"\ntraining:\n  epochs: {text}"))


def test_a_thousand_faults_are_not_all_printed(path):
    found = faults_of(path, changed(QUICK, f"    methods: {[f'x{i}' for i in range(1000)]}"))
    assert len(found) == 21
    assert found[0]["path"] == "studies.quick.methods[0]"
    assert found[-1]["what"] == "... and more"
