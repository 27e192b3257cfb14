"""What the README shows is what there is."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from imcl.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_training_loop_runs_as_written():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    assert all(p.grad is not None for p in scope["model"].parameters())


COMMITTED = sorted((ROOT / "paper/results").glob("*/*.md"))


@pytest.mark.parametrize("path", COMMITTED, ids=[path.stem for path in COMMITTED])
def test_its_tables_are_what_the_committed_records_say(path, monkeypatch):
    from imcl import grid, params
    from imcl.report import render, summary, tables

    monkeypatch.chdir(ROOT)
    study = path.parent
    loaded = params.load(study=study.name)
    cells = grid.cells(loaded)
    monkeypatch.setattr(grid, "RECORDS", study / "records")
    records = {c.name: json.loads(c.record.read_text()) for c in cells if c.record.exists()}
    assert len(records) == len(list((study / "records").iterdir()))
    for cell in cells:
        if cell.name in records:
            record = records[cell.name]
            assert record["digest"] == cell.digest == grid.digest(record["config"])
    made = summary.summarise(loaded, cells, records, {cell.name: cell.record for cell in cells})
    table = next(table for table in tables.build(made) if table.name == path.stem)
    assert render.markdown(table) == path.read_text()
    assert render.markdown(table).strip() in README


def test_the_time_it_gives_for_a_study_is_that_of_the_records():
    paths = list((ROOT / "paper/results/cpu/records").iterdir())
    costs = [cost for path in paths for cost in json.loads(path.read_text())["cost"]]
    spent = sum(cost["training_seconds"] + cost["evaluation_seconds"] for cost in costs)
    said = f"{len(paths)} of 78 cells, which took {spent / 60:.0f} minutes of one core together"
    assert said in " ".join(README.split())


def test_its_ledger_is_what_the_committed_records_say(monkeypatch, tmp_path):
    from imcl import grid, params
    from imcl.report import claims, render, tables

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(grid, "RECORDS", tmp_path)  # only what is committed counts
    ledger = render.markdown(tables.claims_table(claims.judge(params.load())))
    assert f"<!-- claims -->\n{ledger}<!-- /claims -->" in README


@pytest.mark.parametrize("name", ["loop-cpu", "pipeline-cpu", "growth-cpu", "agreement-cpu"])
def test_its_measurements_are_the_recorded_ones(name, monkeypatch):
    from imcl.report import benches, render

    monkeypatch.chdir(ROOT)
    table = next(table for table in benches.tables() if table.name == name)
    shown = README.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]
    assert shown == render.markdown(table)


def test_every_link_and_place_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    places = re.findall(r"^\| `([^`]+)`", README.split("## Layout")[1], flags=re.MULTILINE)
    assert len(links) > 3
    assert len(places) > 3
    for name in [*links, *places]:
        if name.rstrip("/") not in ("data", "results", "logs"):
            assert (ROOT / name).exists(), name


COMMANDS = (
    "plan status fetch prepare noise train summary tables claims trace figures paper report verify"
)


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_explains_itself(command, capsys):
    assert f"`{command}`" in README or f"imcl {command}" in README
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: imcl {command}" in capsys.readouterr().out


def test_the_conda_environment_names_the_packages_of_the_rules():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", entry)[0] for entry in project["dependencies"]}
    conda = yaml.safe_load((ROOT / "workflow/envs/imcl.yaml").read_text())["dependencies"]
    theirs = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    # The engines stand outside the rules, and torchvision is met in tests alone.
    inside = names - {"snakemake", "dvc", "torchvision"}
    assert {theirs.get(name, name) for name in inside} == {entry.split()[0] for entry in conda} - {
        "python"
    }
