"""The bill of a study: its sums and schedules by hand, what it is printed as, what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from handmade import ROOT, empty_project, parameters, record, write
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from imcl.bench import budget as bills
from imcl.bench import rate
from imcl.cli import main
from imcl.files import write_text
from imcl.project import Project
from imcl.study import budget, cost, grid
from imcl.study.budget import Disk, Missing, Rate, Recorded, Speed, makespan
from imcl.study.grid import Cell
from imcl.study.load import checked, load

NOTHING = Disk(archives=0, arrays=0, labels=0, weights=0, records=0)
CPU = torch.device("cpu")


def cells(study: str = "quick", **changes: object) -> list[Cell]:
    """The cells of a study whose entry in params.yaml is changed."""
    raw = parameters()
    raw["studies"][study] |= changes
    return grid.cells(checked(raw, Path("params.yaml")), study)


def missing(*chosen: Cell) -> list[Missing]:
    return [Missing(cell, len(cell.seeds), cost.of_seed(cell)) for cell in chosen]


def seed_of(cell: Cell) -> cost.Cost:
    seed = cost.of_seed(cell)
    assert seed is not None
    return seed


# the schedule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "devices", "end"),
    [
        ([], 3, 0),
        ([5], 8, 5),
        ([3, 3, 2, 2, 2], 2, 7),  # 3 + 2 + 2 beside 3 + 2
        ([1, 1, 1, 4], 2, 5),  # the longest last: 1 + 4 beside 1 + 1
        ([4, 1, 1, 1], 2, 4),  # and first
        ([2, 2, 2], 1, 6),
    ],
)
def test_a_schedule_by_hand(jobs, devices, end):
    assert makespan(jobs, devices) == end


@given(st.lists(st.integers(1, 1000), max_size=30), st.integers(1, 70))
def test_what_holds_for_every_schedule(jobs, devices):
    end = makespan(jobs, devices)
    assert makespan(jobs, 1) == sum(jobs)
    assert max(jobs, default=0) <= end <= sum(jobs)
    assert end >= sum(jobs) / devices
    assert end >= makespan(jobs, devices + 1)
    assert makespan(jobs, len(jobs) + 1) == max(jobs, default=0)


# the sums ----------------------------------------------------------------------------------------


def test_short_seeds_share_a_job_and_its_start():
    """At one multiply-add a second, a job takes as many seconds as its seeds do."""
    (short,) = missing(cells()[0])
    (long,) = missing(cells("cpu")[0])
    speed = Speed(Rate(1.0, 1.0), start=7.0)
    assert short.seed is not None and long.seed is not None
    assert short.jobs(speed) == [7 + 2 * short.seed.macs]
    assert long.jobs(speed) == [7 + long.seed.macs] * 3


def test_a_bill_by_hand():
    """Two cells of one dataset and one of another, at a billion multiply-adds a second."""
    first, second = missing(*cells(methods=["base", "kernel"], noise=["clean"])[:2])
    (other,) = missing(cells("cpu")[0])
    assert first.seed is not None and other.seed is not None
    disk = {
        "digits": Disk(archives=1, arrays=20, labels=300, weights=0, records=0),
        "cifar10_5k": NOTHING,
    }
    speed = Speed(Rate(1e9, 1e9))
    digits, cifar, whole = budget.rows([first, other, second], disk, speed, 50.0, [1, 2])
    short, long = first.seed.macs / 1e9, other.seed.macs / 1e9
    assert [row["dataset"] for row in (digits, cifar, whole)] == ["digits", "cifar10_5k", None]
    assert [row["cells"] for row in (digits, cifar, whole)] == [2, 1, 3]
    assert [row["seeds"] for row in (digits, cifar, whole)] == [4, 3, 7]
    assert [row["jobs"] for row in (digits, cifar, whole)] == [2, 3, 5]
    assert digits["seconds"] == pytest.approx(4 * short)
    assert whole["seconds"] == whole["makespan"][1] == pytest.approx(4 * short + 3 * long)
    assert (digits["longest"], whole["longest"]) == pytest.approx((2 * short, long))
    assert digits["makespan"] == pytest.approx({1: 4 * short, 2: 2 * short})
    # On two devices: two long jobs beside a short one, a long one and the other short one.
    assert whole["makespan"][2] == pytest.approx(2 * long)
    assert whole["joules"] == pytest.approx(50 * whole["seconds"])
    assert digits["disk"] == {
        "archives": 1,
        "arrays": 20,
        "labels": 300,
        "weights": 4 * first.seed.weights_bytes,
        "records": 4 * first.seed.record_bytes,
    }
    assert sum(whole["disk"].values()) == sum(digits["disk"].values()) + sum(cifar["disk"].values())
    assert whole["checkpoint"] == other.seed.checkpoint_bytes
    assert whole["memory"] == max(first.seed.device_bytes, other.seed.device_bytes)


def test_the_anchor_trains_at_its_rate():
    """50,000 images a second are one epoch of CIFAR-10 in a second, without its evaluation."""
    (base,) = cells(
        "gpu",
        datasets=["cifar10"],
        noise=["clean"],
        backbones=["resnet18"],
        methods=["base"],
        anchors={},
        training={"epochs": 10},
    )
    seed = seed_of(base)
    training = seed.training / budget.at_rate(50_000).typical.training
    assert training == pytest.approx(10, rel=0.002)  # the last batch of an epoch is left out


def test_a_step_that_was_measured_counts_more_than_its_family_and_that_more_than_the_typical():
    base, kernel, *_ = cells(noise=["clean"], methods=["base", "kernel"])
    seed = seed_of(base)
    family, kind = budget.family(base, seed), budget.kind(base, seed)
    assert budget.family(kernel, seed_of(kernel)) == family
    speed = Speed(Rate(1.0, 2.0))
    assert speed.seconds(base, seed) == seed.training + seed.evaluation / 2
    speed = Speed(Rate(1.0, 2.0), families={family: Rate(3.0, 4.0)})
    assert speed.seconds(base, seed) == seed.training / 3 + seed.evaluation / 4
    speed = Speed(Rate(1.0, 2.0), families={family: Rate(3.0, 4.0)}, steps={kind: 5.0})
    assert speed.seconds(base, seed) == seed.steps * 5 + seed.evaluation / 4
    assert speed.seconds(kernel, seed) == seed.training / 3 + seed.evaluation / 4


def test_what_does_not_change_the_time_of_a_step_makes_no_other_kind():
    """Noise, weights and seeds do not; variants, batches and precisions do."""

    def kinds(*chosen: Cell) -> set[str]:
        return {budget.kind(cell, seed_of(cell)) for cell in chosen}

    weight = {"clean": {"kernel": {"weight": 3.0}}}
    variant = {"clean": {"kernel": {"variant": "orthogonal"}}}
    few = {"noise": ["clean", "n50"], "backbones": ["vgg16"], "methods": ["kernel"]}
    assert len(kinds(*cells(**few), *cells(**few, ways=weight, seeds=[7]))) == 1
    assert len(kinds(*cells(**few), *cells(**few, ways=variant))) == 2
    assert len(kinds(*cells(**few), *cells(**few, training={"batch_size": 65}))) == 2
    assert len(kinds(*cells(**few), *cells(**few, training={"precision": "bf16"}))) == 2


def test_how_far_off_it_is_by_device():
    told = [Recorded("b", 2.0, 1.0), Recorded("a", 10.0, 20.0)]
    told += [Recorded("b", 2.0, 4.0), Recorded("b", 4.0, 3.0)]
    assert budget.accuracy(told) == [
        {"device": "a", "seeds": 1, "median": 2.0, "least": 2.0, "most": 2.0},
        {"device": "b", "seeds": 3, "median": 0.75, "least": 0.5, "most": 2.0},
    ]


# a project ---------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path) -> Project:
    return empty_project(tmp_path)


@pytest.fixture
def imcl(project, capsys):
    """Runs a command in the project; returns its exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--project", str(project.root)])
        return code, *capsys.readouterr()

    return run


def test_only_what_is_missing_counts(project):
    settings = load(project.params)
    before = bills.bill(project, settings, rate=100.0)
    planned = grid.cells(settings)
    for cell in planned[:3]:
        write(project, cell, record(cell, [0.5] * len(cell.seeds)))
    after = bills.bill(project, settings, rate=100.0)
    assert [bill["rows"][-1]["cells"] for bill in (before, after)] == [28, 25]
    assert [bill["rows"][-1]["seeds"] for bill in (before, after)] == [56, 50]
    assert after["rows"][-1]["seconds"] < before["rows"][-1]["seconds"]
    first, second, *_ = planned[3:]
    trained = [*first.runs, second.runs[0]]  # a cell to be collected, and half of another
    for run in trained:
        write_text(project.run(run.run_key), "")
    assert [
        bills.bill(project, settings, rate=100.0)["rows"][-1][key] for key in ("cells", "seeds")
    ] == [24, 47]
    # Records by hand took 3 s a seed.
    (told,) = after["accuracy"]
    assert (told["device"], told["seeds"]) == ("a machine (cpu)", 6)
    speed = budget.at_rate(100.0)
    ratios = [speed.seconds(cell, seed_of(cell)) / 3 for cell in planned[:3]]
    assert (told["least"], told["most"]) == pytest.approx((min(ratios), max(ratios)))


def test_archives_arrays_and_labels_count_once_and_only_if_they_are_not_there(project):
    raw = parameters()
    raw["studies"]["quick"] |= {"datasets": ["cifar10", "cifar10_5k"], "noise": ["n50", "worse"]}
    settings = checked(raw, project.params)
    full, part, _ = bills.bill(project, settings, rate=1.0)["rows"]
    archive, labels = 170_498_071, 2_401_007
    assert full["disk"]["archives"] == archive + labels
    assert part["disk"]["archives"] == 0  # the same files
    assert full["disk"]["arrays"] == 60_000 * 3072 + (2 * 50_000 + 10_000) * 8
    assert full["disk"]["labels"] == 2 * 50_000 * 8
    assert part["disk"]["labels"] == 2 * 5_000 * 8
    project.archives.mkdir(parents=True)
    (project.archives / "cifar-10-python.tar.gz").touch()
    prepared = project.dataset(grid.datasets(settings)["cifar10"].key)
    prepared.parent.mkdir(parents=True)
    prepared.touch()
    full, part, _ = bills.bill(project, settings, rate=1.0)["rows"]
    assert (full["disk"]["arrays"], full["disk"]["archives"]) == (0, labels)
    assert part["disk"]["arrays"] > 0


def test_a_study_that_is_done(project, imcl):
    for cell in grid.cells(load(project.params)):
        write(project, cell, record(cell, [0.5] * len(cell.seeds)))
    told = "study quick: nothing to do, all 28 cells are done\n"
    assert imcl("plan", "--budget") == (0, told, "")
    code, out, _ = imcl("plan", "--budget", "--json")
    assert (code, json.loads(out)["rows"]) == (0, [])


def test_a_study_that_is_trained_but_not_collected_is_not_done(project, imcl):
    first, second, *others = grid.cells(load(project.params))
    for cell in others:
        write(project, cell, record(cell, [0.5] * len(cell.seeds)))
    for run in (*first.runs, *second.runs):
        write_text(project.run(run.run_key), "")
    told = "study quick: all seeds are trained; 2 cells are still to be collected\n"
    assert imcl("plan", "--budget") == (0, told, "")


def test_as_json(imcl):
    code, out, _ = imcl("plan", "--budget", "--json", "--rate", "500", "--watts", "20")
    bill = json.loads(out)
    assert (code, bill["rate"], bill["watts"], bill["cells"]) == (0, 500, 20, 28)
    digits, whole = bill["rows"]
    assert (digits["dataset"], whole["dataset"]) == ("digits", None)
    assert whole["makespan"].keys() == {"1", "8", "64"}
    assert whole["joules"] == pytest.approx(20 * whole["seconds"])


LONG = "a_dataset_whose_name_is_as_long_as_can_b"


@pytest.fixture
def wide(project) -> Project:
    """A project with a study of large numbers and long names."""
    raw = parameters()
    raw["datasets"][LONG] = {"source": "imagenet32", "padding": 4, "flip": True}
    raw["datasets"]["mine"] = {
        "source": "folder",
        "path": "nowhere",
        "side": 96,
        "padding": 0,
        "flip": False,
    }
    raw["studies"]["gpu"] |= {
        "datasets": [LONG, "stl10", "mine"],
        "noise": ["n20", "n50", "n80"],
        "seeds": list(range(99)),
        "anchors": {},
        "ways": {},
    }
    raw["study"] = "gpu"
    project.params.unlink()
    project.params.write_text(json.dumps(raw))
    return project


@pytest.mark.parametrize("terminal", [True, False])
def test_it_fits_into_80_columns(wide, terminal, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    bill = bills.bill(wide, load(wide.params), rate=0.5)
    monkeypatch.setattr(Console, "is_terminal", terminal)
    bills.show(bill)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "study gpu: 126 of 126 cells are missing" in text
    assert "by multiply-adds, at --rate 0.5" in text
    assert "400 W, assumed for a GPU" in text
    assert "stl10" in text and "on 64" in text


def test_pictures_that_are_not_here(wide, imcl):
    code, out, _ = imcl("plan", "--budget", "--rate", "100")
    rows = [line.split() for line in out.splitlines() if line.startswith("mine")]
    assert code == 0
    assert [row[1:] for row in rows] == [["42", "4,158", *"????"], [*"????"]]
    assert "not in these sums: mine, its pictures are not here: bring them" in " ".join(out.split())


def test_nothing_but_pictures_that_are_not_here(wide, imcl):
    raw = json.loads(wide.params.read_text())
    raw["studies"]["gpu"]["datasets"] = ["mine"]
    wide.params.write_text(json.dumps(raw))
    code, out, error = imcl("plan", "--budget")
    assert (code, out) == (1, "")
    assert error == (
        "imcl plan: study gpu: what it costs is not known: mine: its pictures are not here: bring "
        "them, or the data/contents/ that was made of them\n"
    )


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--rate 100", "--rate belongs to the budget; add --budget, or leave it out"),
        ("--watts 9", "--watts belongs to the budget; add --budget, or leave it out"),
        ("--budget --study quik", "unknown study 'quik'; did you mean 'quick'?"),
    ],
)
def test_what_is_refused(imcl, words, fault):
    code, out, error = imcl("plan", *words.split())
    assert (code, out) == (2, "")
    assert error.endswith(f"{fault}\n") and error.count("\n") == 1


@pytest.mark.parametrize("option", ["--rate", "--watts"])
@pytest.mark.parametrize("value", ["0", "-3", "nan", "much"])
def test_numbers_that_are_refused(imcl, capsys, option, value):
    with pytest.raises(SystemExit) as stopped:
        imcl("plan", "--budget", f"{option}={value}")
    assert stopped.value.code == 2
    assert f"argument {option}: '{value}' is not a number from 0.001 to" in capsys.readouterr().err


def test_a_damaged_record_does_not_hide_the_bill(project, imcl):
    cell = grid.cells(load(project.params))[0]
    write(project, cell, record(cell, [0.5] * len(cell.seeds))).write_text("{")
    assert imcl("plan", "--budget", "--rate", "100")[0] == 0


@pytest.mark.parametrize("environment", [{}, {"IMCL_DEVICE": "cuda"}])
def test_the_device_that_trains_is_measured(project, imcl, capsys, monkeypatch, environment):
    def fail():
        raise RuntimeError("there is none")

    monkeypatch.setattr(torch.cuda, "init", fail)
    monkeypatch.delenv("IMCL_DEVICE", raising=False)
    if not environment:
        text = project.params.read_text()
        assert "run: {}" in text
        write_text(project.params, text.replace("run: {}", "run: {device: cuda}"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, _, error = imcl("plan", "--budget")
    assert code == 1
    assert "torch can use none: there is none" in error


def test_a_given_rate_needs_no_torch(project):
    code = (
        "import sys; from imcl.cli import main; "
        f"main(['plan', '--budget', '--rate', '9', '--project', {str(project.root)!r}]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.254, "0.25 s"), (59.6, "60 s"), (90, "1.5 min"), (763200, "212 h")],
)
def test_an_amount_has_two_digits(seconds, text):
    assert bills.amount(seconds, bills.SECONDS) == text


def test_the_readme_shows_what_is_printed(project, capsys):
    """From the committed records. If this differs, run the command and replace the text."""
    project.committed.symlink_to(ROOT / "paper" / "results")
    text = (ROOT / "workflow" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```\n(study paper: .*?)```", text, re.S)
    assert "\nimcl plan --budget --study paper --rate 23800 " in text
    settings = load(ROOT / "params.yaml", "paper")
    bills.show(bills.bill(project, settings, rate=23_800))
    assert capsys.readouterr().out == shown


# measuring ---------------------------------------------------------------------------------------


def works(*chosen: Cell) -> list[rate.Work]:
    return [rate.Work(cell, seed_of(cell), len(cell.seeds)) for cell in chosen]


def test_every_kind_of_step_is_measured(monkeypatch):
    monkeypatch.setattr(rate, "MOST_STEPS", 2)
    monkeypatch.setattr(rate, "REPEATS", 1)
    chosen = cells(
        noise=["n50"], width=2, backbones=["vgg16"], methods=["base", "all", "coteaching"]
    )
    other = cells("every", noise=["clean"], datasets=["digits"], methods=["base"], width=2)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    speed, told = rate.measure(works(*chosen), works(*other), CPU, start=9.0)
    assert told == "1 of 1 networks, 3 of 3 kinds of steps"
    assert speed.start == 9.0
    assert speed.steps.keys() == {budget.kind(c, seed_of(c)) for c in [*chosen, *other]}
    assert speed.families.keys() == {budget.family(c, seed_of(c)) for c in [*chosen, *other]}
    assert all(0 < seconds < 10 for seconds in speed.steps.values())
    base, everything, _ = (speed.steps[budget.kind(c, seed_of(c))] for c in chosen)
    assert base < everything  # which passes each image twice
    assert torch.equal(torch.rand(1), expected)


def test_without_time_multiply_adds_tell(monkeypatch):
    monkeypatch.setattr(rate, "MOST_STEPS", 2)
    monkeypatch.setattr(rate, "LIMIT", 0.0)
    chosen = cells(noise=["clean"], methods=["base", "kernel"], width=2)
    speed, told = rate.measure(works(*chosen), [], CPU)
    assert told == "1 of 2 networks, 0 of 4 kinds of steps, the others by their multiply-adds"
    assert [family.backbone for family in speed.families] == ["resnet18"]  # the most work
    (only,) = speed.families.values()
    assert speed.typical == pytest.approx(only)
    vgg = chosen[-1]
    seed = seed_of(vgg)
    assert speed.seconds(vgg, seed) == pytest.approx(
        seed.training / only.training + seed.evaluation / only.evaluation
    )


def test_this_machine_is_measured(project, monkeypatch):
    """As `imcl plan --budget` without --rate."""
    monkeypatch.setattr(rate, "LIMIT", 0.0)
    monkeypatch.setattr(rate, "MOST_STEPS", 2)
    bill = bills.bill(project, load(project.params))
    device = "GPU" if torch.cuda.is_available() else "core"
    assert bill["time"].startswith("measured here on ")
    assert bill["energy"] == f"assumed for a {device}"
    assert bill["rows"][-1]["seconds"] > 24 * cost.START_SECONDS
    assert {1, 8, 64} <= bill["rows"][-1]["makespan"].keys()
