"""What each engine would run again after an edit: no dependency is forgotten, and none is invented.

Both engines are asked about a finished study. Each test edits files, asks, and puts them back.
"""

import csv
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Checkout

from imcl.files import write_json
from imcl.records.seal import sealed

pytestmark = pytest.mark.workflow

DOCUMENTS = {"tables", "figures", "paper", "report"}
OF_TABLES = {"tables", "paper", "report"}  # the paper holds them, and the report's crate the paper
SUMMARY = {"summary", *DOCUMENTS}
CLAIMS = {"claims", *DOCUMENTS}
SEARCH = {"search", *DOCUMENTS}
EVERYTHING = {"summary", "claims", "search", *DOCUMENTS}
ALL_STAGES = {"data", "train", "analysis", "paper"}

# A file in each room, and which rules run again when it changes. Data, labels and records do not:
# the digests in their names decide that.
SOURCES = {
    "errors.py": EVERYTHING,
    "files.py": EVERYTHING,
    "project.py": EVERYTHING,
    "study/grid.py": EVERYTHING,
    "records/store.py": EVERYTHING,
    "cli/results.py": EVERYTHING,
    "analysis/summary.py": SUMMARY,
    "analysis/claims.py": CLAIMS,
    "analysis/search.py": SUMMARY | SEARCH,  # the summary says which trials were chosen
    "present/render.py": DOCUMENTS,
    "present/tables.py": DOCUMENTS,
    "present/latex.py": DOCUMENTS,
    "present/figures.py": {"figures", "paper", "report"},
    "present/pdf.py": {"paper", "report"},
    "present/html.py": {"report"},
    "present/crate.py": {"report"},
}
# Rooms that decide data and records, and commands that make no document.
APART = [
    "progress.py",
    "data/cifar10.py",
    "noise/symmetric.py",
    "models/vgg16.py",
    "ways/kernel.py",
    "baselines/dml.py",
    "collaboration.py",
    "training/loop.py",
    "present/trace.py",
    "verify.py",
    "bench/loop.py",
]


@contextmanager
def restored(checkout: Checkout, *names: str) -> Iterator[list[Path]]:
    """The paths of files that get their content and dates back afterwards."""
    paths = [checkout.folder / name for name in names]
    before = [(path.read_bytes(), path.stat()) for path in paths]
    try:
        yield paths
    finally:
        for path, (content, found) in zip(paths, before, strict=True):
            path.write_bytes(content)
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@contextmanager
def edited(checkout: Checkout, *names: str) -> Iterator[None]:
    """Files have a further line, for as long as the context lasts."""
    with restored(checkout, *names) as paths:
        for path in paths:
            path.write_bytes(path.read_bytes() + b"\n")
        yield


def rules(checkout: Checkout) -> set[str]:
    """What Snakemake would run."""
    output = checkout.snakemake("--dry-run", "--quiet", "reason")
    found = dict(re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE))
    return {*found} - {"all", "total"}


def stages(checkout: Checkout) -> set[str]:
    """What DVC would run, apart from stages that follow those that it names."""
    return {*json.loads(checkout.run("dvc", "status", "--json"))}


@pytest.mark.parametrize(("name", "expected"), SOURCES.items())
def test_an_edited_source_file_runs_what_loads_it(finished, name, expected):
    with edited(finished, f"src/imcl/{name}"):
        assert rules(finished) == expected


def test_edited_rooms_that_decide_records_train_nothing(finished):
    with edited(finished, *(f"src/imcl/{name}" for name in APART)):
        assert rules(finished) == set()


@pytest.mark.parametrize("name", ["errors.py", "training/loop.py", "bench/loop.py"])
def test_dvc_asks_snakemake_after_any_edit_of_the_source(finished, name):
    with edited(finished, f"src/imcl/{name}"):
        assert stages(finished) == ALL_STAGES


@pytest.mark.parametrize(
    ("names", "expected_rules", "expected_stages"),
    [
        (["paper/main.tex"], {"paper", "report"}, {"paper"}),
        (["paper/templates/table.tex.j2"], OF_TABLES, {"paper"}),
        (["paper/results/bench/loop-cpu.json"], DOCUMENTS, {"analysis", "paper"}),
        (["paper/results/bench/overhead-cpu.json"], CLAIMS, {"analysis", "paper"}),
        (["src/imcl/present/page/script.js"], DOCUMENTS, ALL_STAGES),
        (["workflow/rules/train.smk", "Snakefile"], set(), ALL_STAGES),
    ],
)
def test_an_edited_input_runs_what_reads_it(finished, names, expected_rules, expected_stages):
    with edited(finished, *names):
        assert rules(finished) == expected_rules
        assert stages(finished) == expected_stages


@pytest.mark.parametrize("folder", ["results/records", "paper/results/other/records"])
def test_a_record_of_another_study_changes_the_claims_but_not_the_summary(finished, folder):
    with restored(finished, "params.yaml"):
        finished.change(studies__other__seeds=[1])  # so that its cells are none of micro's
        assert rules(finished) == {"report"}  # which shows params.yaml
        cell = json.loads(finished.run("imcl", "plan", "--json", "--study", "other"))[1]
        record = finished.folder / folder / f"{cell['cell']}-{cell['digest']}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("{}")
        assert rules(finished) == CLAIMS
        record.unlink()


def test_a_changed_claim_is_judged_again(finished):
    with restored(finished, "params.yaml"):
        finished.change(claims__evidence__seeds=5)
        assert rules(finished) == CLAIMS
        assert stages(finished) == {"analysis", "paper"}


def test_a_rule_has_every_module_that_its_command_loads(finished):
    """Those that are imported by name too."""
    table = finished.snakemake("--detailed-summary", "--quiet", "all")
    lines = table[table.index("output_file\t") :].splitlines()
    inputs: dict[str, set[str]] = {}
    for row in csv.DictReader(lines, delimiter="\t"):
        inputs.setdefault(row["rule"], set()).update(row["input-file(s)"].split(","))
    for rule in EVERYTHING:
        places = [Path("src", *name.split(".")) for name in finished.loaded(rule)]
        assert len(places) > 10
        for place in places:
            is_package = (finished.folder / place).is_dir()
            file = place / "__init__.py" if is_package else place.with_suffix(".py")
            assert str(file) in inputs[rule], f"rule {rule}"


def test_a_measurement_that_changes_is_in_the_paper(finished):
    """It was stale once, after `dvc repro` too."""
    path = finished.folder / "paper/results/bench/loop-cpu.json"
    measurement = json.loads(path.read_text())
    del measurement["seal"]
    measurement["rows"][0]["images_per_second"] = 98765.0
    write_json(path, sealed(measurement))
    finished.repro()
    tables = (finished.folder / "paper/build/tables").glob("*.tex")
    assert any("98765" in re.sub(r"[{},\\ ]", "", table.read_text()) for table in tables)
    assert rules(finished) == stages(finished) == set()
