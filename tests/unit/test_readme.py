"""What the READMEs show is what there is."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision

from imcl.analysis import claims
from imcl.cli import main
from imcl.present import claims as claims_tables
from imcl.present import measurements, render, tables
from imcl.present.documents import Documents
from imcl.project import Project
from imcl.records.record import environment_of
from imcl.study.load import load

ROOT = Path(__file__).resolve().parents[2]
PROJECT = Project(ROOT, scratch=ROOT / "nothing was made here")
READMES = {
    place: (ROOT / place).read_text(encoding="utf-8")
    for place in (
        "README.md",
        "workflow/README.md",
        "paper/README.md",
        "src/imcl/README.md",
        "paper/results/bench/README.md",
    )
}
COMMITTED = sorted(PROJECT.committed.glob("*/*-*.md"))


@cache
def documents(study: str) -> Documents:
    """Of a study's committed records."""
    return Documents.compute(PROJECT, load(PROJECT.params, study), committed=True)


def between(text: str, mark: str) -> str:
    """What is between the marks of a table."""
    return text.split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0]


def test_the_training_loop_runs_as_written():
    (code,) = re.findall(r"```python\n(.*?)```", READMES["README.md"], flags=re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    assert all(p.grad is not None for p in scope["model"].parameters())


@pytest.mark.parametrize("loop", ["a plain loop", "Lightning", "Hugging Face Trainer", "timm"])
def test_the_loops_of_others_run_as_written(loop, tmp_path, monkeypatch):
    text = READMES["src/imcl/README.md"]
    (code,) = re.findall(rf"```python\n# {loop}\n(.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) < 30
    monkeypatch.chdir(tmp_path)
    if loop == "Hugging Face Trainer":
        from transformers import ResNetConfig, ResNetForImageClassification

        small = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
        model = ResNetForImageClassification(ResNetConfig(**small, num_labels=10))
        head = model.classifier[1]
    else:
        model = torchvision.models.shufflenet_v2_x0_5(num_classes=10)
        head = model.fc
    before = head.weight.detach().clone()
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    scope = {"model": model, "images": images, "labels": torch.arange(16) % 10}
    exec(code, scope)
    assert head.weight.isfinite().all()
    assert not torch.equal(head.weight.cpu(), before)
    if "trainer" in scope:  # it evaluates the model as it is
        predicted = scope["trainer"].predict(scope["data"])
        with torch.no_grad():
            logits = model.eval()(images.to(head.weight.device)).logits.cpu()
        assert torch.allclose(torch.tensor(predicted.predictions), logits, atol=1e-5)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_committed_table_is_what_the_committed_records_say(path):
    built = tables.build(documents(path.parent.name))
    table = next(table for table in built if table.name == path.stem)
    assert render.markdown(table) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("place", "mark"),
    [
        (place, mark)
        for place, text in READMES.items()
        for mark in re.findall(r"<!-- ([\w-]+/[\w-]+) -->", text)
    ],
)
def test_a_readme_shows_the_committed_table(place, mark):
    table = PROJECT.committed / f"{mark}.md"
    assert between(READMES[place], mark) == table.read_text(encoding="utf-8")


def test_every_committed_table_is_shown():
    shown = {
        mark for text in READMES.values() for mark in re.findall(r"<!-- ([\w-]+/[\w-]+) -->", text)
    }
    assert shown == {f"{path.parent.name}/{path.stem}" for path in COMMITTED}


def test_the_time_it_gives_for_a_study_is_that_of_the_records():
    records = [json.loads(p.read_text()) for p in PROJECT.committed_records("cpu").iterdir()]
    seconds = {"cpu": [], "cuda": []}
    for record in records:
        for run, cost in zip(record["runs"], record["cost"], strict=True):
            spent = cost["training_seconds"] + cost["evaluation_seconds"]
            seconds[environment_of(record, run)["device"]].append(spent)
    text = " ".join(READMES["paper/README.md"].split())
    assert f"All {len(records)} cells are trained" in text
    trainings = sum(map(len, seconds.values()))
    assert f"{len(seconds['cuda'])} of the {trainings} trainings ran on an NVIDIA H200" in text
    assert f"took {sum(seconds['cpu']) / 60:.0f} minutes of one core" in text


def test_the_claims_are_what_the_committed_records_say():
    judged = claims.judge(PROJECT, load(PROJECT.params), committed=True)
    table = claims_tables.table(judged)
    assert between(READMES["paper/README.md"], "claims") == render.markdown(table)
    brief = render.markdown(replace(table, rules=claims_tables.BRIEF))
    assert between(READMES["README.md"], "claims") == brief


def test_the_first_page_is_short():
    assert len(READMES["README.md"].splitlines()) <= 150


MEASURED = [
    *("loop-cpu", "loop-cuda", "steps-cpu", "steps-cuda", "agreement-cpu", "agreement-cuda"),
    *("pipeline-cpu", "growth-cpu", "change-cpu", "library-cpu"),
]


@pytest.mark.parametrize("name", MEASURED)
def test_the_measurements_are_the_recorded_ones(name):
    built = measurements.tables(documents("quick").measurements)
    table = next(table for table in built if table.name == name)
    assert between(READMES["paper/results/bench/README.md"], name) == render.markdown(table)


@pytest.mark.parametrize("place", READMES)
def test_every_link_and_place_exists(place):
    text = READMES[place]
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    for name in links:
        assert (ROOT / place).parent.joinpath(name).exists(), name
    made = ("data", "results", "logs", "paper/build")
    for row in re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", text.split("## Where to read on")[-1]):
        for name in re.findall(r"`([^`]+)`", row):
            assert name.rstrip("/") in made or (ROOT / name).exists(), name


COMMANDS = (
    "reproduce plan status settings schema fetch prepare data noise train run merge share summary "
    "claims search tables figures paper report trace verify bench"
)


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_explains_itself(command, capsys):
    assert f"`{command}`" in READMES["workflow/README.md"].split("## Commands")[1]
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: imcl {command}" in capsys.readouterr().out
