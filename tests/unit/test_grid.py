"""The grid: its cells in order, and digests that change with what decides a result."""

import hashlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import create_model

from imcl.errors import UsageError
from imcl.project import Project
from imcl.study import grid, methods
from imcl.study.grid import Cell
from imcl.study.load import checked
from imcl.study.options import DEFAULT, WAYS, Way
from imcl.study.settings import Settings, Training

PARAMS: dict[str, Any] = {
    "study": "small",
    "studies": {
        "small": {
            "datasets": ["part", "digits"],
            "noise": ["clean", "n20", "n50"],
            "backbones": ["vgg16", "resnet18"],
            "methods": ["base", "output", "kernel", "output+kernel", "representation", "all"],
            "seeds": [1, 2],
            "width": 8,
            "training": {"epochs": 14},
        },
        "other": {
            "datasets": ["digits"],
            "noise": ["n80"],
            "backbones": ["vgg16"],
            "methods": ["base"],
            "seeds": [7],
            "width": 4,
        },
    },
    "datasets": {
        "digits": {"source": "digits", "padding": 1, "flip": False},
        "part": {
            "source": "cifar10",
            "train_size": 5000,
            "subset_seed": 0,
            "padding": 4,
            "flip": True,
        },
    },
    "noise": {
        "n20": {"kind": "symmetric", "rate": 0.2, "noise_seed": 0},
        "n50": {"kind": "symmetric", "rate": 0.5, "noise_seed": 0},
        "n80": {"kind": "symmetric", "rate": 0.8, "noise_seed": 0},
    },
    "ways": {
        "output": {
            "variant": "augment",
            "weight": 5.0,
            "ramp_up_steps": 2000,
            "misfit_power": 3.0,
            "temperature": 2.0,
            "parts": 2,
            "dropout_rate": 0.3,
        },
        "intermediate": {
            "variant": "augment",
            "weight": 1.0,
            "ramp_up_steps": 2000,
            "centred": False,
        },
        "representation": {"variant": "correlation", "weight": 1.0, "ramp_up_steps": 2000},
        "kernel": {"variant": "cosine", "weight": 10.0, "ramp_up_steps": 2000},
    },
    "search": {
        "candidates": {
            "base": [{"training": {"learning_rate": 0.05}}, {"training": {"weight_decay": 0.0}}],
            "output": [{"output": {"variant": "spatial", "weight": 2.0}}, {}],
            "elr": [{"elr": {"weight": 7.0}}, {"elr": {"beta": 0.9}}],
            "all": [{"times": {"kernel": 0.3}, "output": {"weight": 3.0}}, {}],
        }
    },
    "training": {
        "epochs": 200,
        "batch_size": 128,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5.0e-4,
        "schedule": "cosine",
        "warmup_epochs": 5,
        "precision": "float32",
        "evaluations": 12,
    },
}


@pytest.fixture(autouse=True)
def no_revisions(monkeypatch) -> None:
    """As before the first revision of any component."""
    monkeypatch.setattr(grid, "REVISIONS", {})


def changed(*changes: tuple[str, object]) -> dict[str, Any]:
    """The parameters with other values at these dotted paths."""
    copy = deepcopy(PARAMS)
    for where, value in changes:
        *parents, key = where.split(".")
        node = copy
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = value
    return copy


def settings(*changes: tuple[str, object]) -> Settings:
    return checked(changed(*changes), Path("params.yaml"))


SETTINGS = settings()

Fits = Callable[[grid.Cell], bool]


def digests(settings: Settings) -> dict[str, str]:
    return {cell.name: cell.digest for cell in grid.cells(settings)}


def rerun(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The names of the cells whose digests differ."""
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def names(fits: Fits) -> set[str]:
    """The names of the cells that fit."""
    return {cell.name for cell in grid.cells(SETTINGS) if fits(cell)}


def everything(cell: grid.Cell) -> bool:
    return True


def nothing(cell: grid.Cell) -> bool:
    return False


def of_methods(*methods: str) -> Fits:
    return lambda cell: cell.method in methods


def of_noise(name: str) -> Fits:
    return lambda cell: cell.noise_name == name


def of_dataset(name: str) -> Fits:
    return lambda cell: cell.dataset.name == name


# cells ------------------------------------------------------------------------------------------


def test_cells_are_in_the_order_of_the_study():
    found = settings(
        ("studies.small.noise", ["n50", "clean"]), ("studies.small.methods", ["all", "base"])
    )
    assert [cell.name for cell in grid.cells(found)] == [
        "part-n50-vgg16-all",
        "part-n50-vgg16-base",
        "part-n50-resnet18-all",
        "part-n50-resnet18-base",
        "part-clean-vgg16-all",
        "part-clean-vgg16-base",
        "part-clean-resnet18-all",
        "part-clean-resnet18-base",
        "digits-n50-vgg16-all",
        "digits-n50-vgg16-base",
        "digits-n50-resnet18-all",
        "digits-n50-resnet18-base",
        "digits-clean-vgg16-all",
        "digits-clean-vgg16-base",
        "digits-clean-resnet18-all",
        "digits-clean-resnet18-base",
    ]


def test_cells_of_the_whole_study():
    found = grid.cells(SETTINGS)
    assert len(found) == 2 * 3 * 2 * 6
    assert len({cell.digest for cell in found}) == len(found)


def test_another_study_by_name():
    assert [cell.name for cell in grid.cells(SETTINGS, "other")] == ["digits-n80-vgg16-base"]


def test_a_cell_names_its_files():
    cell, project = grid.find(SETTINGS, "digits-n50-vgg16-all"), Project(Path("project"))
    assert cell.key == f"digits-n50-vgg16-all-{cell.digest}"
    assert project.record(cell.key) == Path(f"project/results/records/{cell.key}.json")
    run = cell.of_seed(cell.seeds[-1])
    assert run.run_key == f"{cell.name}-seed{cell.seeds[-1]}-{run.digest}"
    assert run.digest == grid.digest({**cell.config, "seeds": cell.seeds[-1:]}) != cell.digest
    assert project.run(run.run_key) == Path(f"project/results/runs/{run.run_key}.json")
    assert project.weights(run.run_key) == Path(f"project/results/weights/{run.run_key}.pt")
    assert cell.noise is not None
    labels = project.noise(cell.noise.dataset.key, cell.noise.key)
    assert labels.parent == project.dataset(cell.dataset.key).parent / "noise"


def test_archives_of_a_dataset():
    known = grid.datasets(SETTINGS)
    assert known["digits"].archives == ()
    [archive] = known["part"].archives
    assert archive.path(Path("archives")) == Path("archives/cifar-10-python.tar.gz")


# digests ----------------------------------------------------------------------------------------


def test_a_digest_is_the_sha256_of_the_canonical_configuration():
    canonical = (
        '{"backbone":{"name":"vgg16","width":8},'
        '"dataset":{"flip":false,"name":"digits","padding":1,"source":"digits"},'
        '"method":"output",'
        '"noise":{"kind":"symmetric","name":"n50","noise_seed":0,"rate":0.5},'
        '"revisions":{},'
        '"seeds":[1,2],'
        '"training":{"batch_size":128,"epochs":14,"evaluations":12,"learning_rate":0.1,'
        '"momentum":0.9,"precision":"float32","schedule":"cosine","warmup_epochs":5,'
        '"weight_decay":0.0005},'
        '"views":2,'
        '"ways":{"output":{"misfit_power":3,"parts":2,"ramp_up_steps":2000,"temperature":2,"variant":"augment",'
        '"weight":5}}}'
    )
    expected = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    assert grid.find(SETTINGS, "digits-n50-vgg16-output").digest == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
        ({"a": [5, 0]}, {"a": [5.0, -0.0]}),
    ],
    ids=["order of keys", "5.0"],
)
def test_spelling_does_not_count(one, other):
    assert grid.digest(one) == grid.digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 5}, {"a": "5"}), ({"a": 1}, {"a": True}), ({"a": 0.1}, {"a": 0.1000001})],
)
def test_other_values_have_other_digests(one, other):
    assert grid.digest(one) != grid.digest(other)


@pytest.mark.parametrize(
    ("where", "value", "affected"),
    [
        ("ways.kernel.weight", 12.0, of_methods("kernel", "output+kernel", "all")),
        ("ways.output.weight", 4.0, of_methods("output", "output+kernel", "all")),
        ("ways.output.temperature", 3.0, of_methods("output", "output+kernel", "all")),
        ("ways.output.variant", "dropout", of_methods("output", "output+kernel", "all")),
        ("ways.output.dropout_rate", 0.5, nothing),
        ("ways.representation.ramp_up_steps", 500, of_methods("representation", "all")),
        ("ways.intermediate.variant", "relation", of_methods("all")),
        ("noise.n50.noise_seed", 1, of_noise("n50")),
        ("noise.n50.noise_seed", "per_run", of_noise("n50")),
        ("datasets.part.subset_seed", "per_run", of_dataset("part")),
        ("noise.n20.rate", 0.25, of_noise("n20")),
        ("noise.n50.kind", "symmetric_inclusive", of_noise("n50")),
        ("noise.n80.rate", 0.75, nothing),
        ("datasets.digits.padding", 0, of_dataset("digits")),
        ("datasets.part.flip", False, of_dataset("part")),
        ("datasets.part.train_size", 1000, of_dataset("part")),
        ("datasets.part.subset_seed", 1, of_dataset("part")),
        ("studies.small.width", 16, everything),
        ("studies.small.seeds", [1, 2, 3], everything),
        ("studies.small.training", {"epochs": 15}, everything),
        ("training.momentum", 0.8, everything),
        ("training.epochs", 100, nothing),
        ("studies.other.width", 16, nothing),
    ],
)
def test_a_change_reruns_exactly_the_cells_that_it_decides(where, value, affected):
    assert rerun(digests(SETTINGS), digests(settings((where, value)))) == names(affected)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("ways.output.weight", 5),
        ("studies.small.seeds", [2, 1]),
        ("ways.kernel", {"ramp_up_steps": 2000, "weight": 10, "variant": "cosine"}),
        ("datasets.digits", {"flip": False, "padding": 1, "source": "digits"}),
        ("studies.small.training", {"epochs": 14, "momentum": 0.9}),
    ],
)
def test_another_spelling_of_the_same_reruns_nothing(where, value):
    assert rerun(digests(SETTINGS), digests(settings((where, value)))) == set()


def test_an_option_counts_where_the_variant_uses_it():
    dropout = ("ways.output.variant", "dropout")
    one = digests(settings(dropout))
    other = digests(settings(dropout, ("ways.output.dropout_rate", 0.5)))
    assert rerun(one, other) == names(of_methods("output", "output+kernel", "all"))


def test_the_name_of_a_study_does_not_count():
    renamed = settings(("studies.renamed", PARAMS["studies"]["small"]), ("study", "renamed"))
    assert digests(renamed) == digests(SETTINGS)
    assert grid.study_digest(grid.cells(renamed)) == grid.study_digest(grid.cells(SETTINGS))


def test_the_same_cell_of_two_studies_has_one_digest():
    found = settings(
        ("studies.other.width", 8),
        ("studies.other.seeds", [2, 1]),
        ("studies.other.noise", ["n50"]),
        ("studies.other.training", {"epochs": 14}),
    )
    [cell] = grid.cells(found, "other")
    assert cell.key == grid.find(found, "digits-n50-vgg16-base").key


def test_the_digest_of_a_study_changes_with_a_cell():
    after = settings(("ways.intermediate.weight", 2.0))
    assert grid.study_digest(grid.cells(after)) != grid.study_digest(grid.cells(SETTINGS))


# revisions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "affected"),
    [
        ("data", everything),
        ("train", everything),
        ("vgg16", lambda cell: cell.backbone == "vgg16"),
        ("kernel", of_methods("kernel", "output+kernel", "all")),
        ("intermediate", of_methods("all")),
    ],
)
def test_a_revision_reruns_what_uses_the_component(monkeypatch, component, affected):
    before = digests(SETTINGS)
    monkeypatch.setattr(grid, "REVISIONS", {component: 2})
    assert rerun(before, digests(SETTINGS)) == names(affected)


def test_a_revision_of_the_noise_reruns_noisy_cells_and_leaves_clean_ones(monkeypatch):
    before = digests(SETTINGS)
    monkeypatch.setattr(grid, "REVISIONS", {"noise": 2})
    found, noisy = rerun(before, digests(SETTINGS)), names(lambda cell: cell.noise is not None)
    assert noisy <= found, "noisy cells that are not run again"
    assert found <= noisy, "clean cells that are run again"


def files_of(name: str, settings: Settings) -> tuple[Path, Path]:
    """Where a cell's arrays and labels are described."""
    cell, project = grid.find(settings, name), Project(Path())
    assert cell.noise is not None
    return project.dataset(cell.dataset.key), project.noise(cell.dataset.key, cell.noise.key)


@pytest.mark.parametrize(
    ("component", "arrays", "labels"),
    [("data", True, True), ("noise", False, True), ("train", False, False)],
)
def test_a_revision_renews_the_files_that_it_decides(monkeypatch, component, arrays, labels):
    before = files_of("part-n50-vgg16-base", SETTINGS)
    monkeypatch.setattr(grid, "REVISIONS", {component: 2})
    after = files_of("part-n50-vgg16-base", SETTINGS)
    assert (after[0] != before[0], after[1] != before[1]) == (arrays, labels)


def test_every_component_stands_at_one(monkeypatch):
    before = digests(SETTINGS)
    monkeypatch.setattr(grid, "REVISIONS", {"train": 1, "kernel": 1})
    assert digests(SETTINGS) == before


# files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "arrays", "labels"),
    [
        ("datasets.part.train_size", 1000, True, True),
        ("datasets.part.subset_seed", 1, True, True),
        ("datasets.part.source", "digits", True, True),
        ("datasets.part.padding", 2, False, False),
        ("datasets.part.flip", False, False, False),
        ("noise.n50.rate", 0.4, False, True),
        ("noise.n50.noise_seed", 1, False, True),
        ("noise.n50.kind", "symmetric_inclusive", False, True),
        ("noise.n20.rate", 0.4, False, False),
        ("training.momentum", 0.8, False, False),
    ],
)
def test_stored_arrays_and_labels_are_renewed_when_they_change(where, value, arrays, labels):
    before = grid.find(SETTINGS, "part-n50-vgg16-base")
    after = grid.find(settings((where, value)), "part-n50-vgg16-base")
    one, other = files_of(before.name, SETTINGS), files_of(before.name, settings((where, value)))
    assert (one[0] != other[0]) == arrays
    assert (one[1] != other[1]) == labels
    assert before.noise is not None and after.noise is not None
    assert (before.noise.digest != after.noise.digest) == labels


def test_noisy_labels_of_two_datasets_are_two_files():
    one = grid.find(SETTINGS, "part-n50-vgg16-base").noise
    other = grid.find(SETTINGS, "digits-n50-vgg16-base").noise
    assert one is not None and other is not None
    assert one.digest != other.digest


# find -------------------------------------------------------------------------------------------


def test_find_by_name_and_by_key():
    cell = next(c for c in grid.cells(SETTINGS) if c.name == "digits-clean-vgg16-output+kernel")
    assert grid.find(SETTINGS, cell.name) == cell
    assert grid.find(SETTINGS, cell.key) == cell


def test_find_refuses_a_key_of_other_parameters():
    stale = grid.find(SETTINGS, "digits-n50-vgg16-kernel").key
    after = settings(("ways.kernel.weight", 12.0))
    now = grid.find(after, "digits-n50-vgg16-kernel").digest
    with pytest.raises(UsageError) as error:
        grid.find(after, stale)
    assert str(error.value) == (
        f"{stale}: the parameters of digits-n50-vgg16-kernel have changed: its digest is now "
        f"{now}, not {stale[-12:]}; start the run again"
    )


def test_find_suggests_the_nearest_cell():
    with pytest.raises(UsageError) as error:
        grid.find(SETTINGS, "digits-n50-vgg16-kernle")
    assert str(error.value) == (
        "study 'small': unknown cell 'digits-n50-vgg16-kernle'; "
        "did you mean 'digits-n50-vgg16-kernel'?"
    )


def test_find_looks_in_the_chosen_study_alone():
    with pytest.raises(UsageError, match="study 'small': unknown cell 'digits-n80-vgg16-base'"):
        grid.find(SETTINGS, "digits-n80-vgg16-base")
    assert grid.find(settings(("study", "other")), "digits-n80-vgg16-base").seeds == [7]


@pytest.mark.parametrize(
    ("method", "views"),
    [("base", 1), ("control", 3), ("output", 3), ("intermediate", 2), ("kernel", 1), ("all", 3)],
)
def test_the_augmentations_that_a_method_sees(method, views):
    found = settings(("ways.output.parts", 3), ("studies.small.methods", [method]))
    assert grid.cells(found)[0].config["views"] == views


def test_control_sees_what_augment_would_whatever_variant_output_has():
    found = settings(
        ("ways.output.parts", 3),
        ("ways.output.variant", "spatial"),
        ("studies.small.methods", ["control", "output"]),
    )
    assert [cell.views for cell in grid.cells(found)][:2] == [3, 1]


def test_a_study_may_override_the_ways_for_labels_with_some_noise():
    overridden = settings(("studies.small.ways", {"clean": {"kernel": {"weight": 7.0}}}))
    before, after = grid.cells(SETTINGS), grid.cells(overridden)
    changed = [new for old, new in zip(before, after, strict=True) if old.digest != new.digest]
    assert [cell.name for cell in changed] == [
        cell.name for cell in before if "kernel" in cell.config["ways"] and cell.noise is None
    ]
    assert changed
    for cell in changed:
        (old,) = [c for c in before if c.name == cell.name]
        kernel = {**old.config["ways"]["kernel"], "weight": 7.0}
        assert cell.config["ways"] == {**old.config["ways"], "kernel": kernel}
    assert grid.cells(overridden, "other")[0].digest == grid.cells(SETTINGS, "other")[0].digest


def test_control_sees_as_many_augmentations_as_its_studys_output_compares():
    found = settings(
        ("studies.small.methods", ["control"]),
        ("studies.small.ways", {"n50": {"output": {"parts": 4}}}),
    )
    views = {cell.config["noise"]["name"]: cell.config["views"] for cell in grid.cells(found)}
    assert views == {"clean": 2, "n20": 2, "n50": 4}


# what a search tries and chooses -----------------------------------------------------------------


def cells_of(methods: list[str], chosen: dict[str, object] | None = None) -> dict[str, Cell]:
    """The cells of a study with these methods, by method."""
    entries = {cell: {"options": o, "reason": "x"} for cell, o in (chosen or {}).items()}
    found = settings(
        *(("studies.small.methods", methods), ("studies.small.chosen", entries)),
        *(("studies.small.noise", ["n50"]), ("studies.small.backbones", ["vgg16"])),
        ("studies.small.datasets", ["digits"]),
    )
    return {cell.method: cell for cell in grid.cells(found)}


def test_a_candidate_is_a_method_with_options_of_its_own():
    found = cells_of(["base", "output@1", "output@2", "output", "base@2", "elr@2"])
    output = found["output"].config["ways"]["output"]
    assert found["output@1"].config["method"] == "output@1"
    # What the candidate leaves out is as in `ways`.
    assert found["output@1"].config["ways"] == {
        "output": {**output, "variant": "spatial", "weight": 2.0}
    }
    assert (found["output@1"].views, found["output"].views) == (1, 2)
    assert found["output@2"].ways == found["output"].ways
    training = found["base"].config["training"]
    assert found["base@2"].config["training"] == {**training, "weight_decay": 0.0}
    assert found["elr@2"].config["baseline"] == {"name": "elr", "weight": 3.0, "beta": 0.9}


PLACE = "digits-n50-vgg16"
CHOSEN = {
    f"{PLACE}-base": {"training": {"learning_rate": 0.02}},
    f"{PLACE}-output": {"output": {"weight": 7.0, "parts": 3}},
    f"{PLACE}-kernel": {"kernel": {"weight": 2.0}},
    f"{PLACE}-elr": {"elr": {"weight": 9.0}},
    f"{PLACE}-all": {"kernel": {"weight": 4.0}},
    "digits-clean-vgg16-base": {"training": {"learning_rate": 0.3}},  # of other labels
}


def test_what_was_chosen_holds_for_its_setting():
    methods = ["base", "output", "output+kernel", "all", "elr+kernel", "control", "default"]
    plain, found = cells_of(methods), cells_of(methods, CHOSEN)
    for name, cell in found.items():
        training = plain[name].config["training"]
        assert cell.config["training"] == {**training, "learning_rate": 0.02}
    assert (found["output"].ways["output"].weight, found["output"].views) == (7.0, 3)
    pair = found["output+kernel"].ways
    assert (pair["output"].weight, pair["kernel"].weight) == (7.0, 2.0)
    every = found["all"].ways
    assert (every["output"].weight, every["kernel"].weight) == (7.0, 4.0)
    assert every["intermediate"] == plain["all"].ways["intermediate"]
    assert found["elr+kernel"].config["baseline"]["weight"] == 9.0
    assert found["elr+kernel"].ways["kernel"].weight == 2.0
    assert found["control"].views == 3
    assert found["default"].ways == plain["default"].ways


def test_a_candidate_for_several_ways_starts_from_what_was_chosen_for_each():
    every = cells_of(["all@1"], CHOSEN)["all@1"].ways
    assert every["output"].weight == 3.0  # stated
    assert every["output"].parts == 3  # chosen for output
    assert every["kernel"].weight == 1.2  # 0.3 times what was chosen for all so far


def test_the_default_follows_the_library_not_params_yaml():
    ways = cells_of(["default"])["default"].ways
    assert ways == {name: WAYS[name](**options) for name, options in DEFAULT.items()}
    assert ways["output"].weight != PARAMS["ways"]["output"]["weight"]


# registries -------------------------------------------------------------------------------------


def test_all_means_the_four_ways_of_the_paper_whatever_is_registered(monkeypatch):
    cells = [("studies.small.methods", ["all", "elr", "elr+all"])]
    before = digests(settings(*cells))
    combined, listed = methods.combined(), methods.names()
    fifth = create_model("Fifth", __base__=Way, variant=(Literal["l1"], "l1"))
    monkeypatch.setitem(WAYS, "fifth", fifth)
    assert digests(settings(*cells)) == before
    assert methods.combined() == combined
    assert [name for name in methods.names() if "fifth" not in name] == listed
    assert {"fifth", "output+fifth", "kernel+fifth"} <= set(methods.names())
    assert methods.parse("all").ways == methods.parse("elr+all").ways
    assert methods.fault("all") is methods.fault("elr+all") is methods.fault("elr+fifth") is None


# data drawn for each run --------------------------------------------------------------------------

PER_RUN_NOISE = ("noise.n50.noise_seed", "per_run")
PER_RUN_SUBSET = ("datasets.part.subset_seed", "per_run")


def keys(data: grid.Data) -> tuple[str, str | None]:
    """The names of the files."""
    return data.dataset.key, data.noise and data.noise.key


@pytest.mark.parametrize(
    ("per_run", "fixed"),
    [
        ([PER_RUN_NOISE], ["noise.n50.noise_seed"]),
        ([PER_RUN_SUBSET], ["datasets.part.subset_seed"]),
        (
            [PER_RUN_NOISE, PER_RUN_SUBSET],
            ["noise.n50.noise_seed", "datasets.part.subset_seed"],
        ),
    ],
)
def test_a_run_has_the_files_of_a_fixed_seed(per_run, fixed):
    found = grid.find(settings(*per_run), "part-n50-vgg16-base")
    for seed in (1, 2):
        other = grid.find(settings(*((key, seed) for key in fixed)), "part-n50-vgg16-base")
        assert keys(found.data(seed)) == keys(other.data(7))
        assert found.data(seed).dataset.config == other.dataset.config
        assert found.data(seed).noise.config == other.noise.config
    assert [data.noise.words for data in found.all_data] == [
        ["part", "n50", "--seed", "1"],
        ["part", "n50", "--seed", "2"],
    ]
    assert len({keys(data) for data in found.all_data}) == 2


def test_runs_share_what_is_not_drawn_for_each():
    cell = grid.find(settings(PER_RUN_NOISE), "part-n50-vgg16-base")
    assert cell.data(1).dataset is cell.data(2).dataset is cell.dataset
    assert cell.drawn_per_run == {"noise"}
    same = grid.find(SETTINGS, "part-n50-vgg16-base")
    assert same.all_data == [(same.dataset, same.noise)]
    assert same.data(5).noise is same.noise
    assert same.noise.words == ["part", "n50"]
    # Another subset has other labels, so noise of one seed is drawn for each run too.
    subset = grid.find(settings(PER_RUN_SUBSET), "part-n50-vgg16-base")
    assert subset.drawn_per_run == {"dataset", "noise"}
    clean = grid.find(settings(PER_RUN_SUBSET), "part-clean-vgg16-base")
    assert clean.drawn_per_run == {"dataset"}
    assert [data.noise for data in clean.all_data] == [None, None]


def test_each_method_of_a_seed_has_the_same_data():
    cells = grid.cells(settings(PER_RUN_NOISE, PER_RUN_SUBSET))
    for dataset in ("part", "digits"):
        for noise in ("clean", "n20", "n50"):
            alike = [c for c in cells if (c.dataset.name, c.noise_name) == (dataset, noise)]
            assert len(alike) == 2 * 6
            for seed in (1, 2):
                assert len({keys(cell.data(seed)) for cell in alike}) == 1


def test_without_a_run_there_are_no_files():
    cell = grid.find(settings(PER_RUN_NOISE, PER_RUN_SUBSET), "part-n50-vgg16-base")
    for part in (cell.dataset, cell.noise):
        with pytest.raises(AssertionError, match="only the"):
            _ = part.key


@pytest.mark.parametrize("where", ["noise.n50.noise_seed", "datasets.part.subset_seed"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("per_runs", "unknown seed 'per_runs'; did you mean 'per_run'?"),
        ("each", "unknown seed 'each'; known: per_run, a whole number"),
        ("3", "'3' is not a whole number; write 3 without quotes"),
        (-1, "-1 is out of range; it must be at least 0"),
        (2**32, "4294967296 is out of range; it must be at most 4294967295"),
        (True, "True is not a whole number"),
        (None, "has no value; give one, or leave the key out"),
        (["per_run"], "['per_run'] is not a whole number"),
    ],
)
def test_a_wrong_seed_gets_one_message(where, value, message):
    with pytest.raises(UsageError) as refused:
        settings((where, value))
    assert str(refused.value).startswith(f"params.yaml: {where}: {message}")
    assert "\n" not in str(refused.value)


def test_a_held_out_share_is_the_same_in_all_runs():
    held_out = {"validation_share": 0.1, "validation_seed": "per_run"}
    with pytest.raises(UsageError, match="validation_seed: 'per_run' is not a whole number"):
        settings(("datasets.part", PARAMS["datasets"]["part"] | held_out))


def test_the_draws_of_cells_are_merged():
    held_out = {"validation_share": 0.1, "validation_seed": 0}
    found = settings(PER_RUN_NOISE, ("datasets.digits", PARAMS["datasets"]["digits"] | held_out))
    draws = {cell.name: cell.draws for cell in grid.cells(found)}
    assert draws["digits-clean-vgg16-base"] == {"held-out share": "same"}
    assert draws["part-clean-vgg16-base"] == {"subset": "same"}
    assert draws["part-n50-vgg16-base"] == {"noise": "anew", "subset": "same"}
    assert draws["part-n20-vgg16-base"] == {"noise": "same", "subset": "same"}
    assert grid.merged_draws(draws.values()) == {
        "held-out share": "same",
        "subset": "same",
        "noise": "mixed",
    }
    plain = grid.find(SETTINGS, "digits-clean-vgg16-base")
    assert plain.draws == {}


@pytest.mark.parametrize(
    ("epochs", "evaluations", "after"),
    [(3, 12, [1, 2, 3]), (3, 2, [2, 3]), (30, 3, [10, 20, 30]), (7, 3, [3, 5, 7]), (5, 1, [5])],
)
def test_evaluations_are_spread_evenly_up_to_the_last_epoch(epochs, evaluations, after):
    training = Training(epochs=epochs, evaluations=evaluations)
    assert [epoch for epoch in range(1, epochs + 1) if training.evaluated(epoch)] == after
