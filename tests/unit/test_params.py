"""params.yaml: the committed file is right, and every fault is named by file, key path, value."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from imcl import grid, methods, params, ways
from imcl.errors import UsageError
from imcl.peers import PEERS

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((ROOT / params.SCHEMA).read_text(encoding="utf-8"))
WAY_SCHEMAS = SCHEMA["properties"]["ways"]["properties"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with the committed params.yaml and its schema, to change at will."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "workflow/schemas", tmp_path / "workflow/schemas")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(where: str, value: object) -> None:
    """Set one entry of params.yaml; `where` is its dotted path."""
    path = Path("params.yaml")
    changed = yaml.safe_load(path.read_text(encoding="utf-8"))
    *parents, key = where.split(".")
    node = changed
    for parent in parents:
        node = node[parent]
    node[key] = value
    path.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")


def faults(study: str | None = None) -> list[str]:
    """The lines of the one error that loading params.yaml must raise."""
    with pytest.raises(UsageError) as error:
        params.load("params.yaml", study)
    return str(error.value).splitlines()


# the committed file -----------------------------------------------------------------------------


def test_the_committed_file_loads():
    loaded = params.load(ROOT / "params.yaml")
    assert loaded["study"] == "quick"
    assert list(loaded["studies"]) == [
        *("quick", "cpu", "cpu_transfer", "every", "gpu", "paper"),
        *("calibrate_training", "calibrate_ways", "calibrate_all", "calibrate_clean"),
    ]


def test_a_study_can_be_chosen():
    assert params.load("params.yaml", "cpu")["study"] == "cpu"
    assert params.load("params.yaml")["study"] == "quick"


def test_its_ways_are_the_defaults_of_the_library():
    assert params.load()["ways"] == ways.DEFAULTS


def test_its_paper_study_has_every_method():
    named = params.load()["studies"]["paper"]["methods"]
    assert sorted(named) == sorted([*methods.combined(), "control"])


@pytest.mark.parametrize("way", ways.WAYS)
def test_the_schema_knows_each_variant_and_option(way):
    options = WAY_SCHEMAS[way]["properties"]
    assert set(options["variant"]["enum"]) == set(ways.WAYS[way])
    assert set(options) == set(WAY_SCHEMAS[way]["required"]) == set(ways.DEFAULTS[way])


@pytest.mark.parametrize("way", ways.WAYS)
def test_each_option_of_a_way_is_used_by_one_of_its_variants(way):
    used = {option for options in ways.WAYS[way].values() for option in options}
    assert used | {"variant", "weight", "ramp_up"} == set(ways.DEFAULTS[way])


def test_the_schema_knows_the_ways_and_wants_every_training_entry():
    assert set(WAY_SCHEMAS) == set(ways.WAYS) == set(ways.DEFAULTS)
    training = SCHEMA["properties"]["training"]
    assert set(training["required"]) == set(training["properties"])


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
    ("method", "peer", "used"),
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
def test_a_method_taken_apart(method, peer, used):
    assert methods.fault(method) is None
    assert methods.parse(method) == (peer, used)


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
    change("studies.quick.methods", ["base", method])
    [fault] = faults()
    assert fault.startswith(f"params.yaml: studies.quick.methods[1]: {reason}")


def test_a_trial_is_named_among_the_methods():
    change("trials.strong", {"kernel": {"weight": 100.0}})
    change("trials.slow", {"training": {}})
    change("studies.quick.methods", ["base", "strong", "slow"])
    assert [cell.method for cell in grid.cells(params.load())][:3] == ["base", "strong", "slow"]
    change("studies.quick.methods", ["base", "strnog"])
    assert faults() == [
        "params.yaml: studies.quick.methods[1]: unknown method 'strnog'; did you mean 'strong'?"
    ]


@pytest.mark.parametrize(
    ("trial", "fault"),
    [
        ({"kernel": {"wieght": 1.0}}, "x.kernel.wieght: unknown key 'wieght'; did you mean"),
        ({"kernels": {}}, "x.kernels: unknown key 'kernels'; did you mean 'kernel'?"),
        ({"kernel": {"variant": "relation"}}, "x.kernel.variant: unknown value 'relation'"),
        ({"training": {"epochs": 3}}, "x.training.epochs: unknown key 'epochs'"),
        ({}, "x: {} is empty; give at least one"),
    ],
)
def test_a_wrong_trial_is_named_by_its_place(trial, fault):
    change("trials.x", trial)
    [found] = faults()
    assert found.startswith(f"params.yaml: trials.{fault}")


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
    change("studies.quick.ways", {"clean": ways})
    [found] = faults()
    assert found.startswith(f"params.yaml: studies.quick.ways.clean.{fault}")


def test_ways_are_set_otherwise_for_noise_of_the_study_alone():
    change("studies.quick.ways", {"cleen": {"kernel": {"weight": 2.0}}, "n80": {}})
    misspelt, of_others = faults()
    assert misspelt == (
        "params.yaml: studies.quick.ways.cleen: unknown noise of the study 'cleen'; did you mean "
        "'clean'?"
    )
    assert "studies.quick.ways.n80: unknown noise of the study 'n80'; did" in of_others
    for noise in ([["clean"]], [1, None], [], None, "clean"):  # faults of their own
        change("studies.quick.noise", noise)
        assert all("ways" not in fault for fault in faults())


def test_a_trial_takes_no_name_of_a_method():
    change("trials.kernel", {"kernel": {"weight": 1.0}})
    assert faults() == [
        "params.yaml: trials.kernel: 'kernel' is a method already; choose another name"
    ]


def test_what_was_chosen_is_in_use():
    loaded = params.load()
    chosen, trials = loaded["calibration"]["chosen"], loaded["trials"]
    assert set(chosen) == {"training", *loaded["ways"]}
    for part, entries in chosen.items():
        assert [entry["noise"] for entry in entries] == ["n50", "clean"]
        for entry in entries:
            options = trials[entry["method"]][part].items()
            for study in ("cpu", "gpu", "paper"):
                plan = loaded["studies"][study]
                if part != "training":
                    own = plan["ways"].get(entry["noise"], {}).get(part, {})
                    assert options <= {**loaded["ways"][part], **own}.items()
                elif study == "cpu":  # the others train longer, in larger batches
                    assert options <= {**loaded["training"], **plan["training"]}.items()


@pytest.mark.parametrize(
    "name", ["digits-clean-resnet18-elr", "digits-clean-resnet18", "base-digits-clean-resnet18"]
)
def test_an_anchor_is_a_cell_of_its_study(name):
    change("studies.quick.anchors", {"digits-n50-vgg16-all": 0.5})
    params.load()
    change("studies.quick.anchors", {name: 0.5})
    assert faults() == [
        f"params.yaml: studies.quick.anchors: {name!r} is no cell of the study, as "
        "DATASET-NOISE-BACKBONE-METHOD"
    ]


def test_a_calibration_is_of_studies_and_of_what_was_tried():
    chosen = {"output": [{"method": "a", "noise": "n50", "reason": "b"}]}
    change("calibration", {"rungs": ["quik"], "chosen": chosen})
    rung, trial = faults()
    assert rung == "params.yaml: calibration.rungs[0]: unknown study 'quik'; did you mean 'quick'?"
    assert "calibration.chosen.output[0].method: unknown trial 'a'; known" in trial


@pytest.mark.parametrize(
    ("where", "value", "fault"),
    [
        (
            "rungs",
            ["calibrate_training", "calibrate_ways", "calibrate_all", "calibrate_clean", "cpu"],
            "rungs[4]: 'cpu' is evaluated on the test images of cifar10_5k: hold some out",
        ),
        (
            "chosen.output",
            [{"method": "base_lr10", "noise": "n50", "reason": "x"}],
            "chosen.output[0].method: trial 'base_lr10' says nothing of output",
        ),
        (
            "chosen.kernel",
            [{"method": "kernel_10", "noise": "n50", "reason": "x"}],
            "chosen.kernel[0].method: trial 'kernel_10' is in no rung with n50 labels",
        ),
    ],
)
def test_a_choice_was_tried_on_held_out_images(where, value, fault):
    change(f"calibration.{where}", value)
    assert faults() == [f"params.yaml: calibration.{fault}"]


def test_every_peer_has_its_options_and_its_schema():
    schema = SCHEMA["properties"]["peers"]
    assert set(schema["properties"]) == set(schema["required"]) == set(PEERS)
    assert set(params.load()["peers"]) == set(PEERS)
    for options in schema["properties"].values():
        assert set(options["properties"]) == set(options["required"])


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
        ("training.", "momentun", "momentum"),
    ],
)
def test_an_unknown_key(where, key, meant):
    change(where + key, 1)
    assert faults() == [f"params.yaml: {where}{key}: unknown key '{key}'; did you mean '{meant}'?"]


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
            "study: unknown study 'zzz'; known: quick, cpu, cpu_transfer, every, gpu, paper",
        ),
    ],
)
def test_an_unknown_name(where, value, message):
    change(where, value)
    [fault] = faults()
    assert fault.startswith(f"params.yaml: {message}")


@pytest.mark.parametrize("name", ["papr", ""])
def test_a_chosen_study_that_does_not_exist(name):
    [fault] = faults(study=name)
    assert fault.startswith(f"params.yaml: study: unknown study '{name}'; ")
    assert "'paper'?" in fault or "known: quick, cpu, cpu_transfer, every, gpu, paper" in fault


def test_the_name_clean_is_taken():
    change("noise.clean", {"kind": "symmetric", "rate": 0.1, "noise_seed": 0})
    assert faults() == [
        "params.yaml: noise.clean: 'clean' always means the true labels; choose another name"
    ]


def test_a_name_that_no_file_could_bear():
    change("datasets.CIFAR-10", {"source": "cifar10", "padding": 4, "flip": True})
    [fault] = faults()
    assert fault.startswith("params.yaml: datasets: 'CIFAR-10' is no name; ")


# values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("noise.n20.rate", 1.5, "1.5 is out of range; it must be at most 1"),
        ("noise.n20.rate", -0.1, "-0.1 is out of range; it must be at least 0"),
        ("ways.kernel.ramp_up", 1.01, "1.01 is out of range; it must be at most 1"),
        ("ways.kernel.weight", -1, "-1 is out of range; it must be at least 0"),
        ("ways.output.temperature", 0, "0 is out of range; it must be more than 0"),
        ("ways.output.parts", 1, "1 is out of range; it must be at least 2"),
        ("training.learning_rate", 0, "0 is out of range; it must be more than 0"),
        ("training.momentum", 1, "1 is out of range; it must be less than 1"),
        ("studies.quick.width", 0, "0 is out of range; it must be at least 2"),
        ("studies.quick.seeds", [1, 2, 1], "1 stands twice"),
        ("studies.quick.methods", ["base", "base"], "'base' stands twice"),
        ("studies.quick.seeds", [], "[] is empty; give at least one"),
        ("studies.quick.datasets", [], "[] is empty; give at least one"),
        ("studies.quick.noise", [], "[] is empty; give at least one"),
        ("studies.quick.backbones", [], "[] is empty; give at least one"),
        ("studies.quick.methods", [], "[] is empty; give at least one"),
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
    change(where, value)
    assert faults() == [f"params.yaml: {where}: {message}"]


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
    change("studies.quick.seeds", seeds)
    assert faults() == [f"params.yaml: {message}"]


@pytest.mark.parametrize(
    "where", ["training.epochs", "training.batch_size", "noise.n20.noise_seed", "ways.output.parts"]
)
def test_a_whole_number_is_written_without_a_point(where):
    # 5.0 would pass as an integer of JSON schema, and fail in the middle of the run.
    change(where, 5.0)
    assert faults() == [f"params.yaml: {where}: 5.0 is not a whole number"]


def test_yaml_reads_1e_3_as_a_text():
    text = Path("params.yaml").read_text(encoding="utf-8")
    text, count = re.subn(r"(?m)^  learning_rate: .*$", "  learning_rate: 1e-3", text)
    assert count == 1
    Path("params.yaml").write_text(text, encoding="utf-8")
    assert faults() == [
        "params.yaml: training.learning_rate: '1e-3' is not a number; "
        "write 0.001 without quotes (YAML wants the point in 1.0e-3)"
    ]


def test_the_advice_for_a_whole_number_is_a_whole_number():
    change("training.epochs", "1e1")
    [fault] = faults()
    assert fault.startswith("params.yaml: training.epochs: '1e1' is not a whole number")
    assert "10.0" not in fault


@pytest.mark.parametrize("text", ["nan", "inf", "abc"])
def test_no_advice_to_write_what_is_no_number(text):
    change("training.learning_rate", text)
    assert faults() == [f"params.yaml: training.learning_rate: '{text}' is not a number"]


@pytest.mark.parametrize(("warmup", "fits"), [(13, True), (14, False), (15, False)])
def test_the_warm_up_is_shorter_than_the_training(warmup, fits):
    change("studies.quick.training", {"epochs": 14, "warmup_epochs": warmup})
    if fits:
        assert params.load()["studies"]["quick"]["training"]["warmup_epochs"] == warmup
    else:
        assert faults() == [
            f"params.yaml: studies.quick.training: warmup_epochs {warmup} leaves nothing of the "
            "14 epochs"
        ]


def test_the_warm_up_of_all_studies_counts_for_a_study_without_one():
    change("training.warmup_epochs", 5)
    change("studies.quick.training", {"epochs": 5})
    assert faults() == [
        "params.yaml: studies.quick.training: warmup_epochs 5 leaves nothing of the 5 epochs"
    ]


# entries that belong together -------------------------------------------------------------------


def test_missing_entries_are_named_together():
    path = Path("params.yaml")
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    del loaded["training"]["epochs"], loaded["training"]["momentum"]
    path.write_text(yaml.safe_dump(loaded), encoding="utf-8")
    assert faults() == ["params.yaml: training: missing: epochs, momentum"]


@pytest.mark.parametrize("key", ["train_size", "subset_seed"])
def test_a_subset_has_a_size_and_a_seed(key):
    change(f"datasets.digits.{key}", 5)
    [fault] = faults()
    assert fault.startswith("params.yaml: datasets.digits: ")
    assert fault.endswith("; give both or neither")


@pytest.mark.parametrize(
    ("key", "value"), [("validation_share", 0.2), ("validation_seed", 0), ("validation_share", 1)]
)
def test_a_validation_share_has_a_size_below_1_and_a_seed(key, value):
    change(f"datasets.digits.{key}", value)
    assert any("give both or neither" in fault for fault in faults())
    change("datasets.digits.validation_seed", 0)
    change("datasets.digits.validation_share", 0.2)
    params.load()
    change("datasets.digits.validation_share", 1)
    assert "it must be less than 1" in faults()[0]


FOLDER = {"source": "folder", "path": "mine", "side": 32, "padding": 4, "flip": True}
HUMAN = {"kind": "human", "labels": "worse"}


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("datasets.mine", {**FOLDER, "sid": 3}, ["datasets.mine.sid: unknown key 'sid'"]),
        ("datasets.mine", {"source": "folder"}, ["missing: path, side, padding, flip"]),
        ("datasets.digits.side", 32, ["datasets.digits.side: unknown key 'side'"]),
        ("noise.mine", {**HUMAN, "rate": 0.4}, ["noise.mine.rate: unknown key 'rate'"]),
        ("noise.mine", {"kind": "human"}, ["noise.mine: missing: labels"]),
        ("noise.mine", {**HUMAN, "labels": "wors"}, ["did you mean 'worse'?"]),
        ("noise.n20.labels", "worse", ["noise.n20.labels: unknown key 'labels'"]),
    ],
)
def test_an_entry_has_the_keys_of_its_kind(where, value, expected):
    change("datasets.good", FOLDER)
    change("noise.good", HUMAN)
    params.load()
    change(where, value)
    found = faults()
    assert len(found) == len(expected)
    assert all(part in fault for part, fault in zip(expected, found, strict=True))


# several faults ---------------------------------------------------------------------------------


def test_all_faulty_values_are_listed():
    change("noise.n20.rate", 2)
    change("studies.quick.seeds", [1, 1])
    change("zzz", 1)
    assert sorted(faults()) == [
        "params.yaml: noise.n20.rate: 2 is out of range; it must be at most 1",
        "params.yaml: studies.quick.seeds: 1 stands twice",
        "params.yaml: zzz: unknown key 'zzz'; "
        "known: study, studies, datasets, noise, ways, trials, calibration, peers, training, "
        "claims",
    ]


def test_all_unknown_names_are_listed():
    change("study", "quik")
    change("noise.n20.kind", "symetric")
    change("studies.quick.methods", ["outptu", "base", "kernle"])
    assert [fault.partition(": unknown")[0] for fault in faults()] == [
        "params.yaml: study",
        "params.yaml: noise.n20.kind",
        "params.yaml: studies.quick.methods[0]",
        "params.yaml: studies.quick.methods[2]",
    ]


def test_faulty_values_and_unknown_names_are_listed_together():
    change("noise.n20.rate", 2)
    change("studies.quick.methods", ["outptu"])
    change("training.learning_rate", float("nan"))
    assert {fault.split(": ")[1] for fault in faults()} == {
        "noise.n20.rate",
        "studies.quick.methods[0]",
        "training.learning_rate",
    }


def test_faults_come_in_the_same_order_each_time():
    for key in ["dd", "bb", "ff", "aa", "ee", "cc"]:
        change(f"training.{key}", 1)
    found = [fault.split(": ")[1].removeprefix("training.") for fault in faults()]
    assert found in (["dd", "bb", "ff", "aa", "ee", "cc"], ["aa", "bb", "cc", "dd", "ee", "ff"])


# files that are no parameters -------------------------------------------------------------------


def test_a_missing_file(folder):
    (folder / "params.yaml").unlink()
    assert faults() == [
        "params.yaml: no such file; run this in the project's folder, or name it with --params"
    ]


def test_a_missing_schema(folder):
    (folder / params.SCHEMA).unlink()
    [fault] = faults()
    assert fault.startswith("workflow/schemas/params.schema.yaml: no such file")


def test_a_folder_instead_of_a_file(folder):
    (folder / "params.yaml").unlink()
    (folder / "params.yaml").mkdir()
    assert faults() == ["params.yaml: cannot be read: Is a directory"]


def test_a_file_that_is_not_utf_8(folder):
    (folder / "params.yaml").write_bytes(b"study: caf\xe9\n")
    assert faults() == ["params.yaml: not UTF-8 text (byte 10)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: quick\nstudy: cpu\n", "line 2, column 1: the key 'study' stands twice"),
        (
            "noise:\n  n20: {rate: 0.2, rate: 0.3}\n",
            "line 2, column 20: the key 'rate' stands twice",
        ),
        ("1: quick\n", "line 1, column 1: the key 1 is not a text; put it in quotes"),
        ("study: [quick\n", "line 2, column 1: "),
        ("study: !!python/name:os.system\n", "line 1, column 8: "),
        ("", "None is not a mapping"),
        ("- study\n", "['study'] is not a mapping"),
        ("[" * 2000, "nested too deeply"),
    ],
)
def test_a_text_that_is_no_mapping_of_parameters(folder, text, message):
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    fault = faults()[0]
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
def test_a_value_that_yaml_cannot_build(folder, text):
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    assert faults()[0].startswith("params.yaml: ")


def test_claims_name_what_exists():
    change("claims.ledger.each_way.methods", ["output", "outptu"])
    change("claims.ledger.label_noise.readings.noise", ["n50", "n55"])
    change("claims.ledger.stl10_vgg16.datasets", ["stl11"])
    change("claims.ledger.overhead.readings", {"measure": ["time"]})
    assert sorted(faults()) == [
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
        change("claims", value)
        assert faults()
