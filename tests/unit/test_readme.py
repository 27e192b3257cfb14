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


def test_its_table_is_what_the_committed_records_say(monkeypatch):
    from imcl import grid, params
    from imcl.report import render, summary, tables

    monkeypatch.chdir(ROOT)
    quick = ROOT / "paper/results/quick"
    loaded = params.load(study="quick")
    cells = grid.cells(loaded)
    monkeypatch.setattr(grid, "RECORDS", quick / "records")
    records = {cell.name: json.loads(cell.record.read_text()) for cell in cells}
    for cell in cells:
        record = records[cell.name]
        assert record["digest"] == cell.digest == grid.digest(record["config"])
    (table, *_) = tables.build(
        summary.summarise(loaded, cells, records, {cell.name: cell.record for cell in cells})
    )
    assert render.markdown(table) == (quick / "accuracy-digits.md").read_text()
    assert render.markdown(table).strip() in README


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
