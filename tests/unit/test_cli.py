"""The command line: 0 if it went well, 2 for wrong usage, 1 for a failure, never a traceback."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from imcl.cli import main, training
from imcl.errors import ImclError, shown
from imcl.files import atomic
from imcl.project import Project
from imcl.records import plan
from imcl.study import grid
from imcl.study.load import load

ROOT = Path(__file__).resolve().parents[2]
PARAMS = Path("params.yaml")
HERE = Project(Path())
CELL = "digits-clean-vgg16-base"


class Done(NamedTuple):
    """What a command leaves: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def imcl(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with the committed params.yaml and no data."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        try:
            code = main(list(arguments))
        except SystemExit as end:  # argparse ends with --help and with wrong arguments
            code = end.code
        return Done(code, *capsys.readouterr())

    return run


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# 0: it went well --------------------------------------------------------------------------------


def test_version(imcl):
    assert imcl("--version") == (0, "0.1.0\n", "")


def test_plan_as_json(imcl):
    done = imcl("plan", "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    cells = grid.cells(load(PARAMS))
    assert [row["cell"] for row in rows] == [cell.name for cell in cells]
    assert all(list(row) == ["cell", "digest", "state", "reason"] for row in rows)


def test_plan_of_another_study(imcl):
    cells = [row["cell"] for row in json.loads(imcl("plan", "--json", "--study", "cpu").out)]
    assert cells == [cell.name for cell in grid.cells(load(PARAMS), "cpu")]
    assert cells != [row["cell"] for row in json.loads(imcl("plan", "--json").out)]


def test_plan_as_a_table(imcl):
    done = imcl("plan")
    assert done.code == 0
    assert CELL in done.out
    assert done.out.splitlines()[-1].endswith(" cells, 0 done, 28 missing")


@pytest.fixture
def elsewhere(imcl, tmp_path, tmp_path_factory, monkeypatch) -> Path:
    """Another folder to work in, outside the project; gives the project's."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    return tmp_path


def test_a_command_outside_a_project_says_how_to_name_one(imcl, elsewhere):
    done = imcl("plan")
    assert done.code == 2
    assert done.err.startswith("params.yaml: no such file; ") and "--project" in done.err


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_project_is_named_from_any_folder(imcl, elsewhere, order):
    named = ["--project", str(elsewhere)]
    command = [*named, "plan"] if order == "before" else ["plan", *named]
    assert imcl(*command).code == 0
    assert imcl(*[*named, "prepare", "digits"]).out.startswith(f"{elsewhere}/data/digits-")
    assert not list(Path().iterdir())


def test_a_project_that_is_not_there(imcl):
    assert imcl("plan", "--project", "nope") == (2, "", "--project nope: no such folder\n")


def test_a_command_finds_the_project_from_a_folder_inside_it(imcl, tmp_path, monkeypatch):
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    assert imcl("prepare", "digits").code == 0
    assert len(list(tmp_path.glob("data/digits-*/dataset.json"))) == 1


def test_parameters_elsewhere(imcl, elsewhere):
    assert imcl("plan", "--params", str(elsewhere / "params.yaml")).code == 0


def test_a_dataset_from_a_package_needs_no_download(imcl):
    done = imcl("fetch", "digits")
    assert done == (0, "digits: nothing to fetch\n", "")


# 2: wrong usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan --study quik", "params.yaml: study: unknown study 'quik'; did you mean 'quick'?"),
        ("prepare digit", "params.yaml: unknown dataset 'digit'; did you mean 'digits'?"),
        ("fetch cifar", "params.yaml: unknown dataset 'cifar'; did you mean 'cifar10'?"),
        ("noise digit n50", "params.yaml: unknown dataset 'digit'; did you mean 'digits'?"),
        ("noise digits n55", "params.yaml: unknown noise 'n55'; did you mean 'n50'?"),
        (
            "train digits-clean-vgg16-bse",
            "study 'quick': unknown cell 'digits-clean-vgg16-bse'; "
            "did you mean 'digits-clean-vgg16-base'?",
        ),
        (
            "plan --params nope.yaml",
            "nope.yaml: no such file; run this in the project's folder, or name that folder with "
            "--project",
        ),
    ],
)
def test_wrong_usage(imcl, arguments, message):
    assert imcl(*arguments.split()) == (2, "", f"{message}\n")


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e99", "x", "9" * 5000, "\x1b[2J"])
@pytest.mark.parametrize(
    ("command", "option", "bounds"),
    [
        (f"train {CELL}", "--threads", "a whole number from 1 to 1,024"),
        (f"train {CELL}", "--checkpoint-share", "a number from 0 to 1"),
        ("run", "--jobs", "a whole number from 1 to 1,024"),
        ("run", "--threads", "a whole number from 1 to 1,024"),
        ("run", "--minutes", "a number from 0 to 10,000,000"),
        ("run", "--grace", "a number from 0 to 10,000,000"),
        ("verify", "--retrain", "a whole number from 0 to 1,000,000"),
    ],
)
def test_a_number_out_of_bounds(imcl, command, option, bounds, value):
    done = imcl(*command.split(), option, value)
    assert (done.code, done.out) == (2, "")
    last = done.err.splitlines()[-1]
    assert last.endswith(f"argument {option}: {shown(value)} is not {bounds}")
    assert len(last) < 250 and last.isprintable()


def test_clean_labels_are_not_drawn(imcl):
    done = imcl("noise", "digits", "clean")
    assert done.code == 2
    assert done.err.startswith("params.yaml: unknown noise 'clean'; ")


def test_a_stale_cell(imcl):
    done = imcl("train", f"{CELL}-000000000000")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"{CELL}-000000000000: the parameters of {CELL} have changed: ")
    assert done.err.endswith(", not 000000000000; start the run again\n")


def test_a_cell_of_another_study(imcl):
    assert imcl("train", CELL, "--study", "cpu").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nope",
        "plan --nope",
        "prepare",
        f"train {CELL} --device tpu",
        f"train {CELL} --threads x",
    ],
)
def test_wrong_arguments(imcl, arguments):
    done = imcl(*arguments.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: imcl ")


@pytest.mark.parametrize(
    "command",
    ["plan", "fetch cifar10_5k", "prepare digits", "noise digits n50", "train x", "summary"],
)
def test_broken_parameters(imcl, command):
    write(Path("params.yaml"), "study: [quick\n")
    done = imcl(*command.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("params.yaml: line 2, column 1: ")


def test_every_fault_of_the_parameters_is_printed(imcl):
    text = Path("params.yaml").read_text(encoding="utf-8")
    write(Path("params.yaml"), f"{text}\nstudys: quick\nways_: 3\n")
    done = imcl("plan")
    assert (done.code, done.out) == (2, "")
    assert "params.yaml: studys: unknown key 'studys'; did you mean " in done.err
    assert "params.yaml: ways_: unknown key 'ways_'; did you mean 'ways'?" in done.err


# 1: a failure -----------------------------------------------------------------------------------


def test_prepare_without_the_archive(imcl):
    assert imcl("prepare", "cifar10") == (
        1,
        "",
        "imcl prepare: data/archives/cifar-10-python.tar.gz: missing; "
        "run `imcl fetch cifar10` first\n",
    )


def test_files_behind_a_login_are_asked_for(imcl, monkeypatch):
    monkeypatch.delenv("IMCL_MIRROR", raising=False)
    done = imcl("fetch", "imagenet32")
    assert done.code == 1
    for part in (
        "behind a login",
        "https://image-net.org/download-images.php",
        "data/archives/Imagenet32_train.zip, about 3,590 MB (or Imagenet32_train_npz.zip)",
        "data/archives/Imagenet32_val.zip, about 140 MB (or Imagenet32_val_npz.zip)",
    ):
        assert part in done.err


def test_the_list_of_datasets_says_what_is_missing(imcl):
    write(Path("data/archives/cifar-10-python.tar.gz"), "")
    rows = {row["name"]: row for row in json.loads(imcl("data", "--json").out)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "digits": "fetched",
        "cifar10": "fetched",
        "cifar100": "missing",
        "stl10": "missing",
        "imagenet32": "missing",
        "cifar10_5k": "fetched",
    }
    assert rows["digits"]["missing"] == "`imcl prepare digits`"
    assert rows["cifar100"]["missing"] == (
        "`imcl fetch cifar100`: data/archives/cifar-100-python.tar.gz (169 MB)"
    )
    assert rows["imagenet32"]["missing"].startswith("place data/archives/Imagenet32_train.zip")

    assert imcl("prepare", "digits").code == 0
    rows = {row["name"]: row for row in json.loads(imcl("data", "--json").out)}
    described = json.loads(next(Path("data").glob("digits-*/dataset.json")).read_text())
    for key in ("n_train", "n_test", "mean", "std", "sha256"):
        assert rows["digits"][key] == described[key]
    assert (rows["digits"]["state"], rows["digits"]["missing"]) == ("prepared", "")
    table = imcl("data").out
    assert "1,437" in table and "imcl fetch stl10" in table


def test_the_subsets_and_labels_of_each_run(imcl, tmp_path):
    file = tmp_path / "params.yaml"
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    raw["datasets"]["digits"] |= {"train_size": 100, "subset_seed": "per_run"}
    raw["noise"]["n50"]["noise_seed"] = "per_run"
    raw["studies"]["quick"]["seeds"] = [3, 1]
    write(file, yaml.safe_dump(raw))

    def digits() -> dict[str, object]:
        rows = json.loads(imcl("data", "--json").out)
        return next(row for row in rows if row["name"] == "digits")

    assert digits()["missing"] == "`imcl prepare digits`"
    one = imcl("prepare", "digits", "--seed", "1")
    assert (one.code, one.out.count("\n")) == (0, 1)
    assert digits()["state"] == "fetched"
    refused = imcl("noise", "digits", "n50")
    assert refused.code == 1
    assert refused.err.endswith("dataset.json: missing; run `imcl prepare digits --seed 3` first\n")
    both = imcl("prepare", "digits")
    assert one.out in both.out
    assert both.out.count("100 training and 360 test images") == 2
    found = digits()
    assert (found["state"], found["n_train"], found["sha256"]) == ("prepared", 100, None)
    drawn = imcl("noise", "digits", "n50")
    assert drawn.out.count("nominal 50.00%, realised 50.00%") == 2
    other = imcl("prepare", "digits", "--seed", "7")  # of no seed of the study
    assert other.code == 0
    assert other.out not in both.out
    for seed in ("-1", "4294967296", "per_run"):
        assert imcl("noise", "digits", "n50", "--seed", seed).code == 2


@pytest.mark.parametrize("command", ["prepare digits", "noise digits n50"])
def test_a_seed_for_data_that_are_the_same_for_every_training_is_refused(imcl, command):
    refused = imcl(*command.split(), "--seed", "77")
    assert (refused.code, refused.out) == (2, "")
    name = command.partition(" ")[2]
    assert f": {name} is the same for every training; leave --seed out" in refused.err


def test_noise_without_data(imcl):
    done = imcl("noise", "digits", "n50")
    path = HERE.dataset(grid.datasets(load(PARAMS))["digits"].key)
    assert done == (1, "", f"imcl noise: {path}: missing; run `imcl prepare digits` first\n")


def test_train_without_data(imcl):
    done = imcl("train", CELL)
    path = HERE.dataset(grid.find(load(PARAMS), CELL).dataset.key)
    assert done == (1, "", f"imcl train: {path}: missing; run `imcl prepare digits` first\n")


def test_summary_without_records(imcl):
    done = imcl("summary")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("imcl summary: 28 of 28 cells have no record yet (digits-")
    assert "--partial" in done.err


@pytest.mark.parametrize("command", ["tables", "figures", "report"])
def test_a_report_without_a_summary(imcl, command):
    assert imcl(command) == (
        1,
        "",
        f"imcl {command}: results/summary: no summary is there; run `imcl summary` first\n",
    )


def test_paper_without_tex(imcl, monkeypatch):
    monkeypatch.setenv("PATH", "")
    done = imcl("paper")
    assert done.code == 1
    assert done.err.startswith("imcl paper: latexmk is not installed")


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("exit 1", 1, "imcl paper: paper/build/paper.log: a fault\n"),
        (
            "mkfifo build/paper.log; exit 1",
            1,
            "imcl paper: paper/build/paper.log: not a file, but a device or a pipe\n",
        ),
        ("kill -INT $PPID; exec sleep 9", 130, "imcl paper: interrupted\n"),
        ("exit 0", 0, ""),
    ],
)
def test_a_paper_that_is_not_finished_leaves_no_pdf(
    imcl, tmp_path, monkeypatch, end, code, message
):
    """And the next try begins anew: latexmk alone would only repeat that it had failed."""
    tex = tmp_path / "bin/latexmk"
    begin = 'echo "$@" > build/arguments; touch build/paper.pdf; echo a fault >&2'
    write(tex, f"#!/bin/sh\n{begin}\n{end}\n")
    tex.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tex.parent}:{os.environ['PATH']}")
    build = Path("paper/build")
    build.mkdir(parents=True)

    done = imcl("paper")

    assert (done.code, done.err) == (code, message)
    assert "-g" in (build / "arguments").read_text().split()
    assert (build / "paper.pdf").exists() == (code == 0)


@pytest.mark.parametrize(
    "damage",
    ["torn", "empty", "no mapping", "other digest", "edited configuration", "without results"],
)
def test_summary_of_a_damaged_record(imcl, damage):
    cell = grid.find(load(PARAMS), CELL)
    right = {"cell": cell.name, "digest": cell.digest, "config": cell.config}
    text = {
        "torn": json.dumps(right)[:-9],
        "empty": "",
        "no mapping": "[]",
        "other digest": json.dumps({**right, "digest": "000000000000"}),
        "edited configuration": json.dumps({**right, "config": {**cell.config, "seeds": [9]}}),
        "without results": json.dumps(right),
    }[damage]
    path = HERE.record(cell.key)
    write(path, text)
    done = imcl("summary", "--partial")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("imcl summary: ") and f"{path}: " in done.err


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_tables_of_a_damaged_summary(imcl, text):
    write(Path("results/summary/quick-0123456789ab.json"), text)
    done = imcl("tables")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("imcl tables: results/summary/quick-0123456789ab.json: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_noise_of_a_damaged_dataset(imcl, text):
    path = HERE.dataset(grid.datasets(load(PARAMS))["digits"].key)
    write(path, text)
    done = imcl("noise", "digits", "n50")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"imcl noise: {path}: ")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "results"), 1, "results: No space left on device"),
        (OSError("no reason given"), 1, "no reason given"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_machine_or_the_user_stops(imcl, monkeypatch, error, code, message):
    def stop(project, settings):
        raise error

    monkeypatch.setattr(plan, "rows", stop)
    assert imcl("plan") == (code, "", f"imcl plan: {message}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_after_it_has_cleaned_up(imcl, monkeypatch, number):
    before = signal.getsignal(number)

    def stop(project, settings):
        with atomic(Path("half.json")) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), number)
            temporary.write_text("whole")

    monkeypatch.setattr(plan, "rows", stop)
    name = signal.Signals(number).name
    message = f"imcl plan: {name}; run it again to continue\n"
    assert imcl("plan") == (128 + number, "", message)
    assert [path.name for path in Path().iterdir()] == ["params.yaml"]
    assert signal.getsignal(number) is before


def test_a_signal_to_a_bench_says_that_nothing_of_it_is_kept(imcl, monkeypatch):
    def stop(project, settings, options):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("imcl.bench.growth.rows", stop)
    error = "imcl bench: SIGTERM; run it again to begin anew\n"
    assert imcl("bench", "growth") == (143, "", error)


def test_ctrl_c_while_a_command_is_still_loading_ends_in_one_line(imcl, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "register", stop)
    assert imcl("plan") == (130, "", "imcl: interrupted\n")


EARLY = """
import os, signal, sys

class CtrlC:
    def __init__(self, module):
        self.module = module
    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
for module in sys.argv[1:]:
    if os.fork() == 0:
        sys.argv = ["imcl", "plan"]
        sys.meta_path.insert(0, CtrlC(module))
        from imcl.cli import main  # as the program does
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.wait()[1]))
before = {*sys.modules}
import imcl.cli
print(*sorted({*sys.modules} - before))
"""


def test_ctrl_c_at_any_import_ends_in_one_line(imcl):
    modules = ["argparse", "pathlib", "imcl.errors", "imcl.cli.program", "imcl.cli.study", "yaml"]
    command = [sys.executable, "-c", EARLY, *modules]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.splitlines() == ["imcl: interrupted"] * 5 + ["imcl plan: interrupted"]
    *codes, unguarded = done.stdout.splitlines()
    assert codes == ["130"] * len(modules)
    assert unguarded == "imcl imcl.cli"  # so that Ctrl-C comes before all others are imported


def test_a_command_runs_outside_the_main_thread(imcl):
    """Where Python lets nobody handle signals."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(imcl, "plan").result().code == 0


def test_an_error_cannot_command_the_terminal(imcl, monkeypatch):
    def stop(project, settings):
        raise ImclError("a\x1b[2Jb\u202ec\nnext line")

    monkeypatch.setattr(plan, "rows", stop)
    assert imcl("plan").err == "imcl plan: a\\x1b[2Jb\\u202ec\nnext line\n"


MISTAKES = [ZeroDivisionError(), ModuleNotFoundError(name="imcl.ways.sparsity")]


@pytest.mark.parametrize("mistake", MISTAKES, ids=repr)
def test_a_mistake_of_ours_is_not_hidden(imcl, monkeypatch, mistake):
    def stop(project, settings):
        raise mistake

    monkeypatch.setattr(plan, "rows", stop)
    with pytest.raises(type(mistake)):
        imcl("plan")


# as a program -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "code"), [("plan --json", 0), ("plan --study quik", 2)])
def test_the_exit_code_of_the_program(imcl, arguments, code):
    command = [sys.executable, "-m", "imcl", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    """A project with all that is committed of its results, and nothing that was made."""
    folder = tmp_path_factory.mktemp("committed")
    shutil.copy(ROOT / "params.yaml", folder)
    for name in ("templates", "results"):
        shutil.copytree(ROOT / "paper" / name, folder / "paper" / name)
    return folder


def test_a_terminal_that_knows_no_such_sign_shows_another(committed):
    command = [sys.executable, "-m", "imcl", "claims"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=committed, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "effect" in done.stdout


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        *((command, []) for command in (["--help"], ["plan"], ["tables"], ["bench", "tables"])),
        # These two compute the statistics anew from the records.
        (["claims"], ["scipy"]),
        (["trace", "x:y:z"], ["pandas", "scipy", "scipy.stats"]),
    ],
)
def test_a_command_imports_nothing_slow_that_it_does_not_need(committed, command, taken):
    """Each second at the start is one at every command."""
    code = (
        "import sys; from imcl.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'scipy', 'scipy.stats', 'matplotlib', 'pandas', 'sklearn'}\n"
        "slow |= {'snakemake', 'dvc', 'shtab'}\n"
        "print('\\nimported', sorted(slow & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=committed, capture_output=True, text=True
    )
    imported = done.stdout.splitlines()[-1].removeprefix("imported ")
    assert set(json.loads(imported.replace("'", '"'))) <= set(taken)


def test_training_imports_only_what_it_uses():
    code = (
        "import sys, imcl.training.worker\n"
        "slow = {'scipy', 'matplotlib', 'pandas', 'sklearn', 'torchvision', 'torch._dynamo'}\n"
        "print(sorted(slow & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
