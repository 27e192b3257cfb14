"""What a training runs on: as asked, and never on a CPU in silence if the study needs a GPU."""

import pytest
import quick
import torch
import yaml
from conftest import ROOT

from imcl.cli import main
from imcl.errors import ImclError
from imcl.study import grid
from imcl.study.load import load
from imcl.training import device, worker
from imcl.training.worker import RunOptions

NAME = "digits-clean-resnet18-base"
OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver.\nMore of it."
)


@pytest.fixture(autouse=True)
def old_driver(monkeypatch):
    """A machine whose GPU has a driver that is too old for this torch."""

    def fail():
        raise RuntimeError(OLD)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fail)
    monkeypatch.delenv("IMCL_DEVICE", raising=False)


@pytest.fixture
def needs_gpu(micro):
    """A project whose study needs a GPU."""
    project, _ = micro
    raw = yaml.safe_load(project.params.read_text())
    raw["studies"]["quick"]["device"] = "gpu"
    project.params.write_text(yaml.safe_dump(raw))
    return project


@pytest.mark.parametrize(
    ("name", "study"), [("cuda", None), ("cuda", "study a"), ("auto", "study a")]
)
def test_a_gpu_that_is_needed_but_cannot_be_used_is_an_error_that_says_why(name, study):
    what = "--device cuda asks for a GPU" if name == "cuda" else "study a needs a GPU"
    with pytest.raises(ImclError) as refused:
        device.choose(name, study)
    assert str(refused.value) == (
        f"{what}, but torch can use none: {OLD.splitlines()[0].rstrip('.')}. To train on the CPU "
        "all the same, take --device cpu or set IMCL_DEVICE=cpu"
    )


@pytest.mark.parametrize(("name", "study"), [("auto", None), ("cpu", None), ("cpu", "study a")])
def test_else_the_cpu_trains(name, study):
    assert device.choose(name, study) == torch.device("cpu")


def test_a_torch_without_cuda_says_so(monkeypatch):
    def fail():
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "init", fail)
    with pytest.raises(ImclError, match="torch can use none: Torch not compiled with CUDA enabled"):
        device.choose("cuda")


@pytest.mark.parametrize("command", [["run"], ["train", NAME]])
def test_the_study_says_what_it_needs(needs_gpu, capsys, command):
    project = needs_gpu
    assert main(["--project", str(project.root), *command]) == 1
    told = capsys.readouterr().err
    assert "study quick (studies.quick.device) needs a GPU, but torch can use none" in told
    assert "driver on your system is too old (found version 11040)" in told
    assert not project.records.exists()
    if command[0] == "train":
        assert main(["--project", str(project.root), "status", "--json"]) == 0
        assert "found version 11040" in capsys.readouterr().out


def test_it_can_be_trained_on_a_cpu_all_the_same(needs_gpu, monkeypatch):
    command = ["--project", str(needs_gpu.root), "train", NAME]
    assert main(command) == 1
    monkeypatch.setenv("IMCL_DEVICE", "cpu")
    assert main([*command, "--device", "auto"]) == 1  # the command counts more
    assert main([*command, "--seed", "1"]) == 0
    monkeypatch.delenv("IMCL_DEVICE")
    assert main([*command, "--seed", "2", "--device", "cpu"]) == 0


@pytest.fixture
def asked(monkeypatch) -> list[RunOptions]:
    """The options of each training that a command asks for, in place of the training."""
    found: list[RunOptions] = []
    monkeypatch.setattr(worker, "train_runs", lambda project, cell, options: found.append(options))
    monkeypatch.delenv("IMCL_DEVICE", raising=False)
    return found


@pytest.mark.parametrize(
    ("stated", "environment", "words", "expected"),
    [
        ({}, None, [], ("auto", False, True)),
        (
            {"device": "cpu", "compile": True, "deterministic": False},
            None,
            [],
            ("cpu", True, False),
        ),
        ({"device": "cuda"}, "cpu", [], ("cpu", False, True)),
        ({"device": "cuda"}, "cpu", ["--device", "auto"], ("auto", False, True)),
        ({"compile": True}, None, ["--no-compile", "--no-deterministic"], ("auto", False, False)),
    ],
)
def test_a_command_counts_more_than_the_environment_and_that_more_than_the_file(
    micro, asked, monkeypatch, stated, environment, words, expected
):
    project = micro[0]
    quick.cell(project, "digits-clean-resnet18-base", file={"run": stated})
    if environment:
        monkeypatch.setenv("IMCL_DEVICE", environment)
    train = ["--project", str(project.root), "train", "digits-clean-resnet18-base"]
    assert main([*train, "--seed", "1", *words]) == 0
    (options,) = asked
    assert (options.device, options.compiled, options.deterministic) == expected


def test_how_a_machine_trains_changes_no_digest(micro):
    project = micro[0]
    before = quick.cell(project, "digits-clean-resnet18-base")
    run = {"device": "cpu", "compile": True, "deterministic": False}
    after = quick.cell(project, "digits-clean-resnet18-base", file={"run": run})
    assert before == after


def test_what_is_not_deterministic_may_try_algorithms():
    threads = torch.get_num_threads()
    device.settle(threads, "float32", deterministic=False)
    assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.deterministic
    device.settle(threads, "float32")
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark


def test_another_name_in_the_environment_is_wrong_usage(needs_gpu, monkeypatch, capsys):
    monkeypatch.setenv("IMCL_DEVICE", "cpus")
    assert main(["--project", str(needs_gpu.root), "train", NAME]) == 2
    assert (
        capsys.readouterr().err == "IMCL_DEVICE=cpus: unknown device 'cpus'; did you mean 'cpu'?\n"
    )


def test_the_device_is_not_part_of_the_digest():
    settings = load(ROOT / "params.yaml", "gpu")
    study = settings.chosen_study
    assert study.device == settings.studies["paper"].device == "gpu"
    anywhere = study.model_copy(update={"device": "any"})
    other = settings.model_copy(update={"studies": {**settings.studies, "gpu": anywhere}})
    assert [c.digest for c in grid.cells(other)] == [c.digest for c in grid.cells(settings)]
