"""params.yaml: the committed file is right, and every fault is named by place, value and remedy."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from imcl.bench.options import BENCHES
from imcl.errors import UsageError
from imcl.study import faults, grid, listing, methods, schema
from imcl.study.load import checked, load
from imcl.study.options import BASELINES, WAYS
from imcl.study.settings import Running, Settings, Training, Ways

ROOT = Path(__file__).resolve().parents[2]
COMMITTED: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((ROOT / "workflow/schemas/params.schema.json").read_text(encoding="utf-8"))

Change = tuple[str, object]


def changed(*changes: Change) -> dict[str, Any]:
    """The committed parameters with other values at these dotted paths."""
    copy = deepcopy(COMMITTED)
    for where, value in changes:
        *parents, key = where.split(".")
        node = copy
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = value
    return copy


def settings(*changes: Change) -> Settings:
    return checked(changed(*changes), Path("params.yaml"))


def faults_of(raw: object) -> list[str]:
    """The lines of the one error that these parameters must raise."""
    with pytest.raises(UsageError) as error:
        checked(raw, Path("params.yaml"))
    return str(error.value).splitlines()


def faults_after(*changes: Change) -> list[str]:
    return faults_of(changed(*changes))


def place(fault: str) -> str:
    """The key path in `params.yaml: studies.quick.seeds: 1 appears twice`."""
    return fault.split(": ")[1]


# the committed file -----------------------------------------------------------------------------


def test_the_committed_file_loads():
    loaded = load(ROOT / "params.yaml")
    assert loaded.study == "quick"
    assert list(loaded.studies) == ["quick", "cpu", "cpu_more", "every", "anchor", "gpu", "paper"]


def test_a_study_can_be_chosen():
    assert load(ROOT / "params.yaml", "cpu").study == "cpu"
    assert load(ROOT / "params.yaml").study == "quick"


def test_its_ways_are_the_defaults_of_the_library():
    assert settings().ways == Ways()


def test_it_does_not_repeat_defaults():
    for name, spec in {**WAYS, **BASELINES}.items():
        stated = {**COMMITTED["ways"], **COMMITTED["baselines"]}.get(name, {})
        assert not [key for key in stated if stated[key] == getattr(spec(), key)]
    stated = COMMITTED["training"]
    assert not [key for key in stated if stated[key] == getattr(Training(), key)]


def test_it_has_every_section_since_dvc_tracks_them_by_name():
    assert list(COMMITTED) == list(Settings.model_fields)


def test_a_short_file_is_enough():
    """All that has a default can be left out."""
    short = {key: COMMITTED[key] for key in ("study", "datasets", "noise")}
    short["studies"] = {"quick": COMMITTED["studies"]["quick"]}
    found = checked(short, Path("params.yaml"))
    assert found.training == settings().training
    assert [cell.key for cell in grid.cells(found)] == [cell.key for cell in grid.cells(settings())]


def test_its_paper_study_has_every_comparison_that_the_abstract_claims():
    loaded = settings()
    planned = {(*cell.setting, cell.method) for cell in grid.cells(loaded, "paper")}
    compared = {
        (dataset, noise, backbone, method)
        for claim in loaded.claims.ledger.values()
        for dataset in claim.datasets or ()
        for noise in [*(claim.noise or ()), *((claim.readings and claim.readings.noise) or ())]
        for backbone in claim.backbones
        for method in [*(claim.methods or ()), *claim.against]
    }
    assert len(compared) == 4 * 2 * 6 + 2 * 2 * 2  # clean: base, four ways, all; n50: base, all
    assert compared <= planned
    assert {dataset for dataset, *_ in planned} == {"cifar10", "cifar100", "stl10", "imagenet32"}
    for dataset in ("cifar10", "cifar100", "stl10", "imagenet32"):
        clean = {method for of, noise, _, method in planned if (of, noise) == (dataset, "clean")}
        assert clean == {*methods.combined(), "control", "multihead"}


# the schema -------------------------------------------------------------------------------------


def test_the_committed_schema_is_the_generated_one():
    path = ROOT / "workflow/schemas/params.schema.json"
    remedy = "imcl schema --write"
    assert path.read_text(encoding="utf-8") == schema.text(), remedy
    assert remedy in SCHEMA["description"]


def test_editors_find_the_schema():
    first = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=workflow/schemas/params.schema.json"


def fits_the_schema(raw: object) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(raw)


def test_the_schema_accepts_the_committed_file():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(COMMITTED, SCHEMA, jsonschema.Draft202012Validator)


FOLDER = {"source": "folder", "path": "mine", "side": 32, "padding": 4, "flip": True}
HUMAN = {"kind": "human", "labels": "worse"}


@pytest.mark.parametrize(
    "change",
    [
        ("studdy", "quick"),
        ("studies", {}),
        ("studies.Quick", COMMITTED["studies"]["quick"]),
        ("studies.quick.seeds", [1, 1]),
        ("studies.quick.seeds", []),
        ("studies.quick.backbones", ["vgg16", "vgg16"]),
        ("backbones.net", {"source": "torch", "name": "resnet18"}),
        ("backbones.net", {"source": "timm"}),
        ("backbones.net", {"source": "timm", "name": "hf-hub:me/net"}),
        ("claims.ledger.each_way.backbones", ["resnet19"]),
        ("studies.quick.width", 1),
        ("studies.quick.training", None),
        ("studies.quick.training.epoch", 3),
        ("datasets." + "d" * 41, FOLDER),
        ("datasets.digits.side", 32),
        ("datasets.digits.subset_seed", 1),
        ("datasets.digits.fold", None),
        ("datasets.mine", {**FOLDER, "fold": 1}),
        ("datasets.mine", {"source": "folder", "padding": 4, "flip": True}),
        ("noise.mine", {**HUMAN, "rate": 0.5}),
        ("noise.n50", {"kind": "symmetric"}),
        ("noise.n50.rate", 1.5),
        ("ways.output.variant", "dropuot"),
        ("ways.output.weight", None),
        ("search.candidates.base", []),
        ("search.rungs", [{"epochs": 1.0}]),
        ("studies.quick.chosen", {"digits-n50-vgg16-base": {"options": {}}}),
        ("baselines.multihead.branches", [2, 2, 2]),
        ("claims.ledger", {}),
        ("claims.ledger.each_way.readings", {}),
    ],
    ids=lambda change: change[0][:40],
)
def test_the_schema_refuses_what_the_package_refuses(change):
    assert faults_after(change)
    assert not fits_the_schema(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        ("datasets.mine", FOLDER),
        ("noise.mine", HUMAN),
        ("backbones.net", {"source": "timm", "name": "resnet18.a1_in1k", "weights": "a.pth"}),
        ("ways.output.weight", 1),
        ("datasets.stl10.fold", 3),
        ("baselines.multihead.branches", [2, 3]),
    ],
)
def test_the_schema_accepts_what_the_package_accepts(change):
    settings(change)
    assert fits_the_schema(changed(change))


@pytest.mark.parametrize("way", WAYS)
def test_the_schema_knows_each_variant_and_option(way):
    options = SCHEMA["$defs"][WAYS[way].__name__]["properties"]
    assert set(options) == set(WAYS[way].model_fields)
    assert options["variant"]["enum"] == list(
        get_args(WAYS[way].model_fields["variant"].annotation)
    )


def test_the_schema_has_the_default_and_the_meaning_of_each_option():
    specs = [*WAYS.values(), *BASELINES.values(), Training]
    for spec in specs:
        for name, option in SCHEMA["$defs"][spec.__name__]["properties"].items():
            assert option["default"] == getattr(spec(), name)
            assert option["description"]


def numbers(schema: object) -> Iterator[dict[str, Any]]:
    """Every number in a JSON schema."""
    if isinstance(schema, dict) and schema.get("type") in ("integer", "number"):
        yield schema
    children = schema.values() if isinstance(schema, dict) else schema
    for child in children if isinstance(schema, dict | list) else ():
        yield from numbers(child)


@pytest.mark.parametrize(
    "specification",
    [SCHEMA, *(bench.model_json_schema() for bench in BENCHES.values())],
    ids=["params.yaml", *BENCHES],
)
def test_every_number_has_bounds(specification):
    found = list(numbers(specification))
    assert found
    for number in found:
        assert {"minimum", "exclusiveMinimum"} & set(number), number
        assert {"maximum", "exclusiveMaximum"} & set(number), number


def test_the_schema_knows_every_way_and_baseline():
    assert list(SCHEMA["$defs"]["Ways"]["properties"]) == list(WAYS)
    assert list(SCHEMA["$defs"]["Tried"]["properties"]) == ["training", *WAYS, *BASELINES]
    assert list(SCHEMA["$defs"]["Factors"]["properties"]) == list(WAYS)
    assert list(SCHEMA["$defs"]["Baselines"]["properties"]) == list(BASELINES)


# the options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_each_option_of_a_way_is_used_by_one_of_its_variants(way):
    variants = get_args(WAYS[way].model_fields["variant"].annotation)
    used = {option for variant in variants for option in WAYS[way](variant=variant).used()}
    assert used == set(WAYS[way].model_fields)


def test_an_option_that_a_variant_does_not_use_is_left_out():
    assert "dropout_rate" in WAYS["output"](variant="dropout").used()
    assert "dropout_rate" not in WAYS["output"](variant="spatial").used()
    assert "centred" not in WAYS["intermediate"](variant="attention").used()


def test_the_listing_has_every_option_with_its_value_and_default():
    rows = listing.rows(settings(("ways.kernel.weight", 3.0), ("baselines.elr.beta", 0.9)))
    found = {(row["section"], row["setting"]): row for row in rows}
    assert len(found) == len(rows)
    expected = {("training", name) for name in Training.model_fields}
    for section, specs in (("ways", WAYS), ("baselines", BASELINES)):
        for name, spec in specs.items():
            expected |= {(f"{section}.{name}", option) for option in spec.model_fields}
    expected |= {("run", name) for name in Running.model_fields}
    assert set(found) == expected
    assert all(row["bounds"] and row["help"] for row in rows)
    assert found["ways.kernel", "weight"] == {
        "section": "ways.kernel",
        "setting": "weight",
        "value": 3.0,
        "default": 10.0,
        "bounds": "number >= 0, <= 1000000000",
        "help": "factor of the loss; 0.0005 for orthogonal if it is not given",
    }
    assert found["baselines.elr", "beta"]["value"] == 0.9
    assert found["baselines.elr", "beta"]["bounds"] == "number >= 0, < 1"
    assert found["training", "epochs"]["value"] == 14  # as study quick overrides it
    assert found["training", "epochs"]["default"] == 200
    assert found["training", "epochs"]["bounds"] == "whole number >= 1, <= 1000000"
    assert found["training", "schedule"]["bounds"] == "cosine, one_cycle"
    assert found["ways.intermediate", "centred"]["bounds"] == "true, false"
    branches = found["baselines.multihead", "branches"]["bounds"]
    assert branches == "list of 2, each a whole number >= 1, <= 64"
    assert "variant dropout only" in found["ways.output", "dropout_rate"]["help"]


def test_the_listing_has_a_studys_overrides_for_some_noise():
    rows = listing.rows(settings(("study", "cpu")))
    own = [row for row in rows if row["section"].startswith("studies.")]
    weights = [(row["section"], row["value"]) for row in own if row["setting"] == "weight"]
    assert weights == [
        ("studies.cpu.ways.clean.output", 1.0),
        ("studies.cpu.ways.clean.kernel", 100.0),
        ("studies.cpu.ways.n50.output", 45.0),
        ("studies.cpu.ways.n50.kernel", 10.0),
    ]


def test_the_listing_is_a_table_of_one_line_for_each_setting(capsys):
    rows = listing.rows(settings())
    listing.show(rows)
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["section", "setting", "value", "default", "bounds", "help"]
    assert len(lines) == len(rows)
    [branches] = [
        line for line in lines if line.startswith("baselines.multihead  ") and "[2, 2]" in line
    ]
    assert branches.count("[2, 2]") == 2
    assert any(re.match(r"ways.intermediate +centred +true +true", line) for line in lines)
    assert last.startswith(f"{len(rows)} settings, 4 of them changed")


def test_the_listing_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    listing.show(listing.rows(settings()))
    shown = capsys.readouterr().out
    assert re.search(r"\x1b\[33m *training\.epochs .*default 200", shown), "a change stands out"
    assert "cosine, one_cycle" in shown


def test_a_way_and_a_baseline_of_the_library_are_checked():
    assert faults.way("kernel", {"weight": 2}).weight == 2
    assert faults.baseline("gce", {}).model_dump() == {"q": 0.7}
    for check, name, options, message in (
        (faults.way, "kernle", {}, "unknown way 'kernle'; did you mean 'kernel'?"),
        (faults.way, "kernel", {"wieght": 1}, "kernel.wieght: unknown key 'wieght'; did you mean"),
        (
            faults.way,
            "output",
            {"parts": 1},
            "output.parts: 1 is out of range; it must be at least",
        ),
        (faults.baseline, "gec", {}, "unknown baseline 'gec'; did you mean 'gce'?"),
        (faults.baseline, "gce", {"q": float("nan")}, "gce.q: nan is not a finite number"),
    ):
        with pytest.raises(UsageError) as error:
            check(name, options)
        assert str(error.value).startswith(message)


TOY = """
from pathlib import Path
import yaml
from imcl.errors import UsageError
from imcl.study import faults, grid, listing, methods, schema
from imcl.study.load import checked

raw = yaml.safe_load(Path("params.yaml").read_text())
raw["ways"] = {"sparsity": {"weight": 3.0}}
raw["search"]["candidates"] = {"base": [{}, {}], "sparsity": [{"sparsity": {"weight": 9.0}}, {}]}
quick = raw["studies"]["quick"]
quick |= {"methods": ["all", "sparsity", "output+sparsity", "sparsity@1", "elr+sparsity"]}
quick |= {"noise": ["clean"], "ways": {"clean": {"sparsity": {"ramp_up_steps": 500}}}}
settings = checked(raw, Path("params.yaml"))
cells = {cell.method: cell for cell in grid.cells(settings)}
used = {"variant": "plain", "weight": 3.0, "ramp_up_steps": 500}
assert cells["sparsity"].config["ways"] == {"sparsity": used}
assert cells["sparsity@1"].config["ways"] == {"sparsity": used | {"weight": 9.0}}
assert list(cells["output+sparsity"].ways) == ["output", "sparsity"]
assert cells["elr+sparsity"].baseline[0] == "elr"
assert (cells["sparsity"].views, cells["output+sparsity"].views) == (1, 2)
used = {"variant": "plain", "weight": 1.0, "ramp_up_steps": 2000}
assert faults.way("sparsity", {}).used() == used
assert any(row["section"] == "ways.sparsity" for row in listing.rows(settings))
definitions = schema.schema()["$defs"]
for model in ("Ways", "Candidate", "Factors"):
    assert "sparsity" in definitions[model]["properties"]
raw["ways"] = {"sparsitty": {}}
try:
    checked(raw, Path("params.yaml"))
except UsageError as error:
    assert "did you mean 'sparsity'?" in str(error), error
print(cells["all"].digest)
"""


def test_a_way_is_added_with_the_one_line_of_the_docstring(tmp_path):
    shutil.copytree(ROOT / "src/imcl/study", tmp_path / "imcl/study")
    for name in ("__init__.py", "errors.py", "files.py", "terminal.py"):
        shutil.copy(ROOT / "src/imcl" / name, tmp_path / "imcl")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    options = tmp_path / "imcl/study/options.py"
    text = options.read_text(encoding="utf-8")
    [line] = re.findall(r'    "sparsity": .*\n', text)
    assert text.count('    "kernel": Kernel,\n') == 1
    text = text.replace('    "kernel": Kernel,\n', f'    "kernel": Kernel,\n{line}')
    options.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", TOY], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    changes = ("studies.quick.methods", ["all"]), ("studies.quick.noise", ["clean"])
    digests = [cell.digest for cell in grid.cells(settings(*changes))]
    assert done.stdout.strip() in digests


def test_the_room_imports_nothing_heavy():
    names = [path.stem for path in (ROOT / "src/imcl/study").glob("*.py") if path.stem[0] != "_"]
    code = f"import sys, {', '.join(f'imcl.study.{name}' for name in names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "imcl.study.grid" in imported
    heavy = {"torch", "numpy", "scipy", "sklearn", "pandas", "rich", "jsonschema"}
    assert not imported & heavy


# methods ----------------------------------------------------------------------------------------


def test_there_are_sixteen_combinations_of_the_ways():
    assert methods.combined() == [
        "base",
        "output",
        "intermediate",
        "representation",
        "kernel",
        "output+intermediate",
        "output+representation",
        "output+kernel",
        "intermediate+representation",
        "intermediate+kernel",
        "representation+kernel",
        "output+intermediate+representation",
        "output+intermediate+kernel",
        "output+representation+kernel",
        "intermediate+representation+kernel",
        "all",
    ]


ALL = ("output", "intermediate", "representation", "kernel")


@pytest.mark.parametrize(
    ("method", "baseline", "used"),
    [
        ("base", None, ()),
        ("control", None, ()),
        ("kernel", None, ("kernel",)),
        ("output+kernel", None, ("output", "kernel")),
        ("all", None, ALL),
        ("multihead", "multihead", ()),
        ("multihead+kernel", "multihead", ("kernel",)),
        ("elr+output+kernel", "elr", ("output", "kernel")),
        ("gce+all", "gce", ALL),
    ],
)
def test_a_method_taken_apart(method, baseline, used):
    assert methods.fault(method) is None
    assert methods.parse(method) == (baseline, used)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("dml+kernel", "dml+kernel: kernel cannot be added to dml, which trains two networks"),
        (
            "coteaching+all",
            "coteaching+all: output cannot be added to coteaching, which trains two",
        ),
        ("rdrop+output", "rdrop+output: output cannot be added to rdrop, whose two dropout passes"),
        ("rdrop+all", "rdrop+all: output cannot be added to rdrop"),
        ("kernel+multihead", "unknown method"),
        ("multihead+dml", "unknown method"),
        ("multihead+kernel+output", "unknown method"),
        ("multihead+base", "unknown method"),
        ("multihead+", "unknown method"),
    ],
)
def test_a_method_that_makes_no_sense_is_refused_with_the_reason(method, reason):
    [fault] = faults_after(("studies.quick.methods", ["base", method]))
    assert fault.startswith(f"params.yaml: studies.quick.methods[1]: {reason}")


@pytest.mark.parametrize(
    ("candidate", "fault"),
    [
        ({"kernel": {"wieght": 1.0}}, "kernel.wieght: unknown key 'wieght'; did you mean"),
        ({"kernels": {}}, "kernels: unknown key 'kernels'; did you mean 'kernel'?"),
        ({"kernel": {"variant": "relation"}}, "kernel.variant: unknown value 'relation'"),
        ({"training": {"epochs": 3}}, "training.epochs: unknown key 'epochs'"),
        ({"training": {"learning_rate": 0.2}}, "training: kernel has no training; leave it out"),
        ({"output": {"weight": 1.0}}, "output: kernel has no output; leave it out"),
        ({"elr": {"weight": 1.0}}, "elr: kernel has no elr; leave it out"),
        ({"times": {"output": 1.0}}, "times.output: kernel has no output; leave it out"),
        ({"times": {"kernel": -1.0}}, "times.kernel: -1.0 is out of range"),
    ],
)
def test_a_wrong_candidate_or_choice_is_named_by_its_place(candidate, fault):
    candidates = ("search.candidates", {"base": [{}], "kernel": [candidate]})
    found = faults_after(candidates)
    assert f"params.yaml: search.candidates.kernel[0].{fault}" in found[0]
    chosen = {"digits-n50-vgg16-kernel": {"options": candidate, "reason": "x"}}
    found = faults_after(("studies.quick.chosen", chosen))
    expected = "times: unknown key" if fault.startswith("times") else fault
    where = "studies.quick.chosen.digits-n50-vgg16-kernel.options"
    assert f"params.yaml: {where}.{expected}" in found[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"candidates.kernel": [{}]}, "candidates.kernel: 1 candidates, but other methods have 4"),
        (
            {"candidates.control": [{}] * 4},
            "candidates.control: control has no settings of its own",
        ),
        ({"candidates.outptu": [{}] * 4}, "candidates.outptu: unknown method 'outptu'"),
        ({"candidates": {"kernel": [{}]}, "rungs": []}, "candidates: base is missing"),
        ({"rungs": [{"seeds": [1, 2]}, {"seeds": [1]}]}, "rungs[1].seeds: one seed is too few"),
        ({"rungs": [{"seeds": [1, 2], "keep": 2}]}, "rungs[0].keep: the last rung chooses"),
        (
            {"rungs": [{"seeds": [1], "keep": 5}, {"seeds": [1, 2]}]},
            "rungs[0].keep: keeps 5 candidates, but there are 4 left",
        ),
        ({"rungs": [{"seeds": [1, 2], "epochs": 0.0}]}, "rungs[0].epochs: 0.0 is out of range"),
        ({"validation_share": 1.0}, "validation_share: 1.0 is out of range"),
    ],
)
def test_a_search_that_is_unfair_or_chooses_nothing_is_refused(changes, expected):
    [fault] = faults_after(*((f"search.{where}", value) for where, value in changes.items()))
    assert fault.startswith(f"params.yaml: search.{expected}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits-n50-vgg16", "'digits-n50-vgg16' is not the name of a cell; write DATASET-NOISE-"),
        ("digist-n50-vgg16-base", "unknown dataset 'digist'; did you mean 'digits'?"),
        ("digits-n50-vgg16-outptu", "unknown method 'outptu'; did you mean 'output'?"),
        ("digits-n50-vgg16-default", "default has no settings of its own; leave it out"),
    ],
)
def test_a_choice_is_for_a_cell(name, expected):
    [fault] = faults_after(("studies.quick.chosen", {name: {"options": {}, "reason": "x"}}))
    assert fault.startswith(f"params.yaml: studies.quick.chosen.{name}: {expected}")


def test_a_candidate_among_the_methods_has_a_number():
    found = settings(("studies.quick.methods", ["base@1", "output@4"]))
    assert [cell.method for cell in grid.cells(found)][:2] == ["base@1", "output@4"]
    for name in ("output@5", "output@0", "output@", "output@x", "output+kernel@1"):
        [fault] = faults_after(("studies.quick.methods", [name]))
        assert fault.startswith(f"params.yaml: studies.quick.methods[0]: {name}: search.candidates")


def test_no_study_has_the_name_of_the_search_of_another():
    [fault] = faults_after(("studies.search_quick", COMMITTED["studies"]["quick"]))
    assert fault.startswith("params.yaml: studies.search_quick: this is the name of the search of")


@pytest.mark.parametrize(
    ("ways", "fault"),
    [
        ({"kernel": {"wieght": 1.0}}, "kernel.wieght: unknown key 'wieght'; did you mean"),
        ({"kernels": {}}, "kernels: unknown key 'kernels'; did you mean 'kernel'?"),
        ({"kernel": {"variant": "relation"}}, "kernel.variant: unknown value 'relation'"),
        ({"kernel": {"weight": -1.0}}, "kernel.weight: -1.0 "),
        ({"training": {"learning_rate": 0.1}}, "training: unknown key 'training'"),
    ],
)
def test_wrong_ways_of_a_study_are_named_by_their_place(ways, fault):
    [found] = faults_after(("studies.quick.ways", {"clean": ways}))
    assert found.startswith(f"params.yaml: studies.quick.ways.clean.{fault}")


def test_ways_are_overridden_for_noise_of_the_study_alone():
    ways = ("studies.quick.ways", {"cleen": {"kernel": {"weight": 2.0}}, "n80": {}})
    misspelt, of_others = faults_after(ways)
    assert misspelt == (
        "params.yaml: studies.quick.ways.cleen: unknown noise of the study 'cleen'; did you mean "
        "'clean'?"
    )
    assert "studies.quick.ways.n80: unknown noise of the study 'n80'; did" in of_others
    for noise in ([["clean"]], [1, None], [], None, "clean"):  # faults of their own
        found = faults_after(ways, ("studies.quick.noise", noise))
        assert all("ways" not in fault for fault in found)


@pytest.mark.parametrize(
    "name", ["digits-clean-resnet18-elr", "digits-clean-resnet18", "base-digits-clean-resnet18"]
)
def test_an_anchor_is_a_cell_of_its_study(name):
    found = settings(("studies.quick.anchors", {"digits-n50-vgg16-all": 0.5}))
    assert found.chosen_study.anchors == {"digits-n50-vgg16-all": 0.5}
    [fault] = faults_after(("studies.quick.anchors", {name: 0.5}))
    assert fault.startswith(f"params.yaml: studies.quick.anchors: {name!r} is not a cell of the st")
    assert "DATASET-NOISE-BACKBONE-METHOD" in fault


# names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "key", "meant"),
    [
        ("", "studdy", "study"),
        ("studies.quick.", "seed", "seeds"),
        ("studies.quick.training.", "epoch", "epochs"),
        ("datasets.digits.", "flop", "flip"),
        ("noise.n50.", "rte", "rate"),
        ("ways.", "outputs", "output"),
        ("ways.output.", "temprature", "temperature"),
        ("ways.kernel.", "wieght", "weight"),
        ("baselines.", "muiltihead", "multihead"),
        ("baselines.elr.", "betta", "beta"),
        ("search.", "rugns", "rungs"),
        ("claims.ledger.overhead.", "sayss", "says"),
        ("claims.ledger.overhead.readings.", "epochs", "epoch"),
        ("training.", "momentun", "momentum"),
    ],
)
def test_an_unknown_key(where, key, meant):
    assert faults_after((where + key, 1)) == [
        f"params.yaml: {where}{key}: unknown key '{key}'; did you mean '{meant}'?"
    ]


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (
            "studies.quick.methods",
            ["base", "all", "outptu"],
            "studies.quick.methods[2]: unknown method 'outptu'; did you mean 'output'?",
        ),
        (
            "studies.quick.methods",
            ["kernel+output"],
            "studies.quick.methods[0]: unknown method 'kernel+output'; did you mean ",
        ),
        (
            "studies.quick.backbones",
            ["resnet19"],
            "studies.quick.backbones[0]: unknown backbone 'resnet19'; did you mean 'resnet18'?",
        ),
        (
            "studies.quick.datasets",
            ["digits", "digit"],
            "studies.quick.datasets[1]: unknown dataset 'digit'; did you mean 'digits'?",
        ),
        (
            "studies.quick.noise",
            ["claen"],
            "studies.quick.noise[0]: unknown noise 'claen'; did you mean 'clean'?",
        ),
        (
            "datasets.cifar10.source",
            "cifar01",
            "datasets.cifar10.source: unknown source 'cifar01'; did you mean 'cifar10'?",
        ),
        (
            "noise.n20.kind",
            "symetric",
            "noise.n20.kind: unknown kind of noise 'symetric'; did you mean 'symmetric'?",
        ),
        (
            "ways.output.variant",
            "dropuot",
            "ways.output.variant: unknown value 'dropuot'; did you mean 'dropout'?",
        ),
        (
            "training.precision",
            "bf61",
            "training.precision: unknown value 'bf61'; did you mean 'bf16'?",
        ),
        ("study", "quik", "study: unknown study 'quik'; did you mean 'quick'?"),
        (
            "study",
            "zzz",
            "study: unknown study 'zzz'; known: quick, cpu, cpu_more, every, anchor, gpu, paper",
        ),
    ],
)
def test_an_unknown_name(where, value, message):
    [fault] = faults_after((where, value))
    assert fault.startswith(f"params.yaml: {message}")


@pytest.mark.parametrize("name", ["papr", ""])
def test_a_chosen_study_that_does_not_exist(name):
    path = ROOT / "params.yaml"
    with pytest.raises(UsageError) as error:
        load(path, name)
    [fault] = str(error.value).splitlines()
    assert fault.startswith(f"{path}: study: unknown study '{name}'; ")
    assert "'paper'?" in fault or "known: quick, cpu, cpu_more, every, anchor, gpu, paper" in fault


def test_a_study_of_more_cells_than_a_machine_can_plan():
    """Refused before any of them is made."""
    many = {
        f"d{i}": ("datasets", {"source": "digits", "padding": 0, "flip": False}) for i in range(500)
    } | {f"n{i}": ("noise", {"kind": "pair", "rate": 0.1, "noise_seed": i}) for i in range(500)}
    changes = [(f"{section}.{name}", entry) for name, (section, entry) in many.items()]
    axes = [
        (f"studies.quick.{axis}", [name for name in many if many[name][0] == axis])
        for axis in ("datasets", "noise")
    ]
    assert faults_after(*changes, *axes) == [
        "params.yaml: studies.quick: 10,500,000 networks are too many; a study may have 100,000"
    ]


def test_the_name_clean_is_taken():
    assert faults_after(("noise.clean", {"kind": "symmetric", "rate": 0.1, "noise_seed": 0})) == [
        "params.yaml: noise.clean: 'clean' always means the true labels; choose another name"
    ]


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        ("datasets", {"source": "cifar10", "padding": 4, "flip": True}),
        ("noise", {"kind": "symmetric", "rate": 0.1, "noise_seed": 0}),
        ("studies", COMMITTED["studies"]["quick"]),
        ("claims.ledger", COMMITTED["claims"]["ledger"]["each_way"]),
    ],
)
def test_a_name_that_no_file_could_bear(section, entry):
    [fault] = faults_after((f"{section}.CIFAR-10", entry))
    assert fault.startswith(f"params.yaml: {section}: 'CIFAR-10' is not a valid name; ")


def test_a_network_has_a_name_that_libraries_give():
    [fault] = faults_after(("backbones.net", {"source": "timm", "name": "ConvNeXt tiny"}))
    expected = "'ConvNeXt tiny' is not a valid name; use letters, digits, _ and ."
    assert fault == f"params.yaml: backbones.net.name: {expected}"


# values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("noise.n20.rate", 1.5, "1.5 is out of range; it must be at most 1"),
        ("noise.n20.rate", -0.1, "-0.1 is out of range; it must be at least 0"),
        ("ways.kernel.ramp_up_steps", -1, "-1 is out of range; it must be at least 0"),
        ("ways.kernel.weight", -1, "-1 is out of range; it must be at least 0"),
        ("ways.output.temperature", 0, "0 is out of range; it must be at least 1e-09"),
        ("ways.output.parts", 1, "1 is out of range; it must be at least 2"),
        ("training.learning_rate", 0, "0 is out of range; it must be at least 1e-09"),
        ("training.learning_rate", 1e10, "10000000000.0 is out of range; it must be at most 1e+09"),
        ("studies.quick.width", 2**40, "1099511627776 is out of range; it must be at most 8192"),
        ("ways.output.parts", 10**6, "1000000 is out of range; it must be at most 64"),
        ("baselines.dml.networks", 10**6, "1000000 is out of range; it must be at most 64"),
        (
            "datasets.digits.padding",
            2**62,
            "4611686018427387904 is out of range; it must be at most 1024",
        ),
        ("training.momentum", 1, "1 is out of range; it must be less than 1"),
        ("studies.quick.width", 0, "0 is out of range; it must be at least 2"),
        ("studies.quick.seeds", [1, 2, 1], "1 appears twice"),
        ("studies.quick.methods", ["base", "base"], "'base' appears twice"),
        ("studies.quick.seeds", [], "[] is empty; give at least one"),
        ("studies.quick.datasets", [], "[] is empty; give at least one"),
        ("studies.quick.noise", [], "[] is empty; give at least one"),
        ("studies.quick.backbones", [], "[] is empty; give at least one"),
        ("studies.quick.methods", [], "[] is empty; give at least one"),
        ("baselines.multihead.branches", [2], "[2] has 1 entries; give 2"),
        ("baselines.multihead.branches", [2, 2, 2], "[2, 2, 2] has 3 entries; give 2"),
        ("claims.ledger.overhead.readings.measure", [], "[] is empty; give at least one"),
        ("claims.ledger.overhead.says", "", "is empty; write some text"),
        ("datasets.digits.flip", "no", "'no' is not true or false"),
        ("datasets.digits.flip", 1, "1 is not true or false"),
        ("noise.n20.rate", True, "True is not a number"),
        ("training.epochs", True, "True is not a whole number"),
        ("training.epochs", 1.5, "1.5 is not a whole number"),
        ("training.epochs", None, "None is not a whole number"),
        ("training", [1], "[1] is not a mapping"),
        ("studies.quick.methods", "base", "'base' is not a list"),
        ("study", 3, "3 is not a text"),
        ("training.learning_rate", float("nan"), "nan is not a finite number"),
        ("ways.kernel.weight", float("inf"), "inf is not a finite number"),
    ],
)
def test_a_wrong_value(where, value, message):
    assert faults_after((where, value)) == [f"params.yaml: {where}: {message}"]


@pytest.mark.parametrize(
    "where",
    [
        "datasets.digits.fold",
        "datasets.digits.train_size",
        "noise.n50.rate",
        "noise.worse.labels",
        "search.candidates.kernel",
        "search.rungs",
        "claims.ledger.stl10_vgg16.figure",
        "claims.ledger.overhead.relation",
        "claims.ledger.label_noise.readings",
        "claims.ledger.label_noise.readings.epoch",
        "studies.quick.training",
        "studies.quick.anchors",
        "studies.quick.evidence",
        "ways",
        "ways.output",
        "baselines.elr.beta",
        "search",
        "claims",
    ],
)
def test_a_key_without_a_value(where):
    for also in ((), (("study", 3),)):  # something else may be wrong with the file
        found = [place(fault) for fault in faults_after(*also, (where, None))]
        assert where in found
        assert found.count("study") == len(also)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([1, True], "studies.quick.seeds[1]: True is not a whole number"),
        ([1, -1], "studies.quick.seeds[1]: -1 is out of range; it must be at least 0"),
        (
            [4294967296],
            "studies.quick.seeds[0]: 4294967296 is out of range; it must be at most 4294967295",
        ),
    ],
)
def test_a_wrong_seed(seeds, message):
    assert faults_after(("studies.quick.seeds", seeds)) == [f"params.yaml: {message}"]


def test_a_list_is_faulted_as_a_whole_and_by_its_items():
    assert faults_after(("studies.quick.seeds", [1, 1, -1])) == [
        "params.yaml: studies.quick.seeds: 1 appears twice",
        "params.yaml: studies.quick.seeds[2]: -1 is out of range; it must be at least 0",
    ]


@pytest.mark.parametrize(
    "where", ["training.epochs", "training.batch_size", "noise.n20.noise_seed", "ways.output.parts"]
)
def test_a_whole_number_is_written_without_a_point(where):
    assert faults_after((where, 5.0)) == [f"params.yaml: {where}: 5.0 is not a whole number"]


def test_the_advice_for_a_whole_number_is_a_whole_number():
    [fault] = faults_after(("training.epochs", "1e1"))
    assert fault.startswith("params.yaml: training.epochs: '1e1' is not a whole number")
    assert "10.0" not in fault


@pytest.mark.parametrize("text", ["nan", "inf", "abc"])
def test_no_advice_to_write_what_is_no_number(text):
    assert faults_after(("training.learning_rate", text)) == [
        f"params.yaml: training.learning_rate: '{text}' is not a number"
    ]


@pytest.mark.parametrize(("warmup", "fits"), [(13, True), (14, False), (15, False)])
def test_the_warm_up_is_shorter_than_the_training(warmup, fits):
    change = ("studies.quick.training", {"epochs": 14, "warmup_epochs": warmup})
    if fits:
        [block] = settings(change).grids("quick")
        assert block.training.warmup_epochs == warmup
    else:
        [fault] = faults_after(change)
        assert fault.startswith(f"params.yaml: studies.quick.training: warmup_epochs {warmup} must")
        assert "14" in fault


@pytest.mark.parametrize("common", [(), (("training.warmup_epochs", 5),)])
def test_the_warm_up_of_all_studies_counts_for_a_study_without_one(common):
    [fault] = faults_after(*common, ("studies.quick.training", {"epochs": 5}))
    assert fault.startswith("params.yaml: studies.quick.training: warmup_epochs 5 must be less")


# entries that belong together -------------------------------------------------------------------


def test_missing_entries_are_named_together():
    raw = changed()
    del raw["studies"]["quick"]["seeds"], raw["studies"]["quick"]["width"]
    assert faults_of(raw) == ["params.yaml: studies.quick: missing: seeds, width"]


def test_what_is_left_out_has_its_default():
    raw = changed(("training", {"batch_size": 32}))
    found = checked(raw, Path("params.yaml")).training
    assert (found.epochs, found.momentum, found.batch_size) == (200, 0.9, 32)


@pytest.mark.parametrize("key", ["train_size", "subset_seed"])
def test_a_subset_has_a_size_and_a_seed(key):
    [fault] = faults_after((f"datasets.digits.{key}", 5))
    assert fault.startswith("params.yaml: datasets.digits: ")
    assert fault.endswith("; give both or neither")


@pytest.mark.parametrize(
    ("key", "value"), [("validation_share", 0.2), ("validation_seed", 0), ("validation_share", 1)]
)
def test_a_validation_share_has_a_size_below_1_and_a_seed(key, value):
    found = faults_after((f"datasets.digits.{key}", value))
    assert any("give both or neither" in fault for fault in found)
    seed = ("datasets.digits.validation_seed", 0)
    settings(seed, ("datasets.digits.validation_share", 0.2))
    found = faults_after(seed, ("datasets.digits.validation_share", 1))
    assert "it must be less than 1" in found[0]


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("datasets.mine", {**FOLDER, "sid": 3}, ["datasets.mine.sid: unknown key 'sid'"]),
        ("datasets.mine", {"source": "folder"}, ["missing: path, side, padding, flip"]),
        ("datasets.mine", {**FOLDER, "fold": 3}, ["mine.fold: source folder has no option fold"]),
        ("datasets.digits.side", 32, ["datasets.digits.side: source digits has no option side"]),
        ("noise.mine", {**HUMAN, "rate": 0.4}, ["noise.mine.rate: kind human has no option rate"]),
        ("noise.mine", {"kind": "human"}, ["noise.mine: missing: labels"]),
        ("noise.mine", {**HUMAN, "labels": "wors"}, ["did you mean 'worse'?"]),
        ("noise.mine", {"kind": "pair", "rate": 0.4}, ["noise.mine: missing: noise_seed"]),
        ("noise.n20.labels", "worse", ["noise.n20.labels: kind symmetric has no option labels"]),
    ],
)
def test_an_entry_has_the_keys_of_its_kind(where, value, expected):
    good = ("datasets.good", FOLDER), ("noise.good", HUMAN)
    settings(*good)
    found = faults_after(*good, (where, value))
    assert len(found) == len(expected)
    assert all(part in fault for part, fault in zip(expected, found, strict=True))


# several faults ---------------------------------------------------------------------------------


def test_all_faulty_values_are_listed():
    found = faults_after(("noise.n20.rate", 2), ("studies.quick.seeds", [1, 1]), ("zzz", 1))
    assert sorted(found) == [
        "params.yaml: noise.n20.rate: 2 is out of range; it must be at most 1",
        "params.yaml: studies.quick.seeds: 1 appears twice",
        "params.yaml: zzz: unknown key 'zzz'; "
        "known: study, studies, datasets, noise, backbones, ways, search, baselines, training, "
        "run, claims",
    ]


def test_all_that_is_wrong_with_one_entry_is_listed():
    entry = {"source": "folder", "path": "", "flip": 1, "train_size": 5, "fold": None}
    assert [place(fault) for fault in faults_after(("datasets.mine", entry))] == [
        "datasets.mine",  # train_size without subset_seed
        "datasets.mine",  # missing: side, padding
        "datasets.mine.flip",
        "datasets.mine.fold",  # folder has none
        "datasets.mine.fold",  # no value
        "datasets.mine.path",
    ]


def test_all_unknown_names_are_listed():
    found = faults_after(
        ("study", "quik"),
        ("noise.n20.kind", "symetric"),
        ("studies.quick.methods", ["outptu", "base", "kernle"]),
    )
    assert [fault.partition(": unknown")[0] for fault in found] == [
        "params.yaml: study",
        "params.yaml: noise.n20.kind",
        "params.yaml: studies.quick.methods[0]",
        "params.yaml: studies.quick.methods[2]",
    ]


def test_faulty_values_and_unknown_names_are_listed_together():
    found = faults_after(
        ("noise.n20.rate", 2),
        ("studies.quick.methods", ["outptu"]),
        ("training.learning_rate", float("nan")),
    )
    assert {place(fault) for fault in found} == {
        "noise.n20.rate",
        "studies.quick.methods[0]",
        "training.learning_rate",
    }


def test_faults_come_in_the_same_order_each_time():
    found = faults_after(*((f"training.{key}", 1) for key in ["dd", "bb", "ff", "aa", "ee", "cc"]))
    places = [place(fault).removeprefix("training.") for fault in found]
    assert places == ["aa", "bb", "cc", "dd", "ee", "ff"]


# files that are no parameters -------------------------------------------------------------------


def faults_in(path: Path) -> list[str]:
    """The lines of the error that this file must raise, without its folder."""
    with pytest.raises(UsageError) as error:
        load(path)
    return str(error.value).replace(f"{path}", path.name).splitlines()


def test_a_missing_file(tmp_path):
    [fault] = faults_in(tmp_path / "params.yaml")
    assert fault.startswith("params.yaml: no such file; ")
    assert "--project" in fault


def test_no_schema_is_needed(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert load(tmp_path / "params.yaml") == load(ROOT / "params.yaml")


def test_a_folder_instead_of_a_file(tmp_path):
    (tmp_path / "params.yaml").mkdir()
    assert faults_in(tmp_path / "params.yaml") == ["params.yaml: cannot be read: Is a directory"]


def test_a_file_that_is_not_utf_8(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"study: caf\xe9\n")
    assert faults_in(tmp_path / "params.yaml") == ["params.yaml: not UTF-8 text (byte 10)"]


def test_yaml_reads_1e_3_as_a_text(tmp_path):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text, count = re.subn(r"(?m)^training: \{\}$", "training:\n  learning_rate: 1e-3", text)
    assert count == 1
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert faults_in(tmp_path / "params.yaml") == [
        "params.yaml: training.learning_rate: '1e-3' is not a number; "
        "write 0.001 without quotes (YAML takes 1e-3 as text; write 1.0e-3)"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: quick\nstudy: cpu\n", "line 2, column 1: the key 'study' appears twice"),
        (
            "noise:\n  n20: {rate: 0.2, rate: 0.3}\n",
            "line 2, column 20: the key 'rate' appears twice",
        ),
        ("1: quick\n", "line 1, column 1: the key 1 is not a text; put it in quotes"),
        ("study: [quick\n", "line 2, column 1: "),
        ("study: !!python/name:os.system\n", "line 1, column 8: "),
        ("", "None is not a mapping"),
        ("- study\n", "['study'] is not a mapping"),
        ("[" * 2000, "line 1, column 21: nested too deeply"),
    ],
)
def test_a_text_that_is_no_mapping_of_parameters(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    fault = faults_in(tmp_path / "params.yaml")[0]
    assert fault.startswith(f"params.yaml: {message}")


@pytest.mark.parametrize(
    "text",
    [
        "study: 2026-13-45\n",
        "study: !!int quick\n",
        "study: !!bool quick\n",
        "studies: !!map [quick]\n",
        "studies: &studies [*studies]\n",
        "studies: &studies {quick: *studies}\n",
    ],
    ids=["date", "int", "bool", "map", "list in itself", "mapping in itself"],
)
def test_a_value_that_yaml_cannot_build(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert faults_in(tmp_path / "params.yaml")[0].startswith("params.yaml: ")


def test_claims_name_what_exists():
    found = faults_after(
        ("claims.ledger.each_way.methods", ["output", "outptu"]),
        ("claims.ledger.label_noise.readings.noise", ["n50", "n55"]),
        ("claims.ledger.stl10_vgg16.datasets", ["stl11"]),
        ("claims.ledger.overhead.readings", {"measure": ["time"]}),
    )
    assert sorted(found) == [
        "params.yaml: claims.ledger.each_way.methods[1]: unknown method 'outptu'; "
        "did you mean 'output'?",
        "params.yaml: claims.ledger.label_noise.readings.noise[1]: unknown noise 'n55'; "
        "did you mean 'n50'?",
        "params.yaml: claims.ledger.overhead: missing: methods, here or under readings",
        "params.yaml: claims.ledger.stl10_vgg16.datasets[0]: unknown dataset 'stl11'; "
        "did you mean 'stl10'?",
    ]


def test_a_damaged_ledger_is_no_traceback():
    for value in (None, 3, [], {"evidence": 1, "ledger": {"a": 1, "b": {"readings": [1]}}}):
        assert faults_after(("claims", value))
