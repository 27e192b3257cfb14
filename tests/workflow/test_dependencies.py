"""What each engine would run again after an edit: no dependency is forgotten, and none is invented.

Both engines are asked about one finished study, and their answers are compared with what is stated
here by hand.
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

ANALYSIS = {"summary", "claims"}
DOCUMENTS = {"tables", "figures", "report"}
EVERYTHING = {*ANALYSIS, *DOCUMENTS, "paper"}
ALL_STAGES = {"train", "analysis", "paper"}

# A file of each room and each other input: the rules that read it, and the stages. Data, labels and
# records are decided by the digests in their names, so the rules that make them read no source.
READ_BY = {
    "src/imcl/errors.py": (EVERYTHING, ALL_STAGES),
    "src/imcl/files.py": (EVERYTHING, ALL_STAGES),
    "src/imcl/project.py": (EVERYTHING, ALL_STAGES),
    "src/imcl/progress.py": (set(), ALL_STAGES),
    "src/imcl/study/grid.py": (EVERYTHING, ALL_STAGES),
    "src/imcl/data/contents.py": (EVERYTHING, ALL_STAGES),
    "src/imcl/data/cifar10.py": (set(), ALL_STAGES),
    "src/imcl/noise/symmetric.py": (set(), ALL_STAGES),
    "src/imcl/models/vgg16.py": (set(), ALL_STAGES),
    "src/imcl/ways/kernel.py": (set(), ALL_STAGES),
    "src/imcl/baselines/dml.py": (set(), ALL_STAGES),
    "src/imcl/collaboration.py": (set(), ALL_STAGES),
    "src/imcl/records/store.py": ({*ANALYSIS, *DOCUMENTS}, ALL_STAGES),
    "src/imcl/training/loop.py": (set(), ALL_STAGES),
    "src/imcl/analysis/summary.py": ({"summary", *DOCUMENTS}, ALL_STAGES),
    "src/imcl/analysis/claims.py": ({"claims", *DOCUMENTS}, ALL_STAGES),
    "src/imcl/analysis/search.py": ({"summary", *DOCUMENTS}, ALL_STAGES),
    "src/imcl/present/render.py": (DOCUMENTS, ALL_STAGES),
    "src/imcl/present/tables.py": (DOCUMENTS, ALL_STAGES),
    "src/imcl/present/text.py": (DOCUMENTS, ALL_STAGES),
    "src/imcl/present/figures.py": ({"figures"}, ALL_STAGES),
    "src/imcl/present/pdf.py": ({"paper"}, ALL_STAGES),
    "src/imcl/present/html.py": ({"report"}, ALL_STAGES),
    "src/imcl/present/crate.py": ({"report"}, ALL_STAGES),
    "src/imcl/present/page/page.js": ({*DOCUMENTS, "paper"}, ALL_STAGES),
    "src/imcl/present/trace.py": (set(), ALL_STAGES),
    "src/imcl/verify.py": (set(), ALL_STAGES),
    "src/imcl/bench/loop.py": (set(), ALL_STAGES),
    "src/imcl/cli/results.py": (EVERYTHING, ALL_STAGES),
    "workflow/rules/train.smk": (set(), ALL_STAGES),
    "Snakefile": (set(), ALL_STAGES),
    "paper/main.tex": ({"paper"}, {"paper"}),
    "paper/references.bib": ({"paper"}, {"paper"}),
    "paper/templates/table.tex.j2": ({"tables"}, {"paper"}),
    "paper/results/bench/loop-cpu.json": (DOCUMENTS, {"analysis", "paper"}),
    "paper/results/bench/overhead-cpu.json": ({"claims", *DOCUMENTS}, {"analysis", "paper"}),
}
# What Snakemake runs after an edit: what reads the file, and then what reads what that makes.
RERUN = {
    "src/imcl/errors.py": EVERYTHING,
    "src/imcl/analysis/summary.py": {"summary", *DOCUMENTS, "paper"},
    "src/imcl/present/figures.py": {"figures", "paper", "report"},
    "src/imcl/present/html.py": {"report"},
    "paper/templates/table.tex.j2": {"tables", "paper", "report"},
    "paper/main.tex": {"paper", "report"},
    "paper/results/bench/loop-cpu.json": {*DOCUMENTS, "paper"},
    "paper/results/bench/overhead-cpu.json": {"claims", *DOCUMENTS, "paper"},
}


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
    found = re.findall(r"^(\w+) +\d+$", output, flags=re.MULTILINE)
    return {*found} - {"all", "total"}


def stages(checkout: Checkout) -> dict[str, set[str]]:
    """What DVC would run, each stage with its inputs that have changed."""
    status = json.loads(checkout.run("dvc", "status", "--json"))
    return {
        stage: {name for change in changes for name in change.get("changed deps", {})}
        for stage, changes in status.items()
        if stage != "contents"  # which always runs
    }


@pytest.fixture(scope="module")
def inputs(finished) -> dict[str, set[str]]:
    """The inputs of each rule, as Snakemake lists them."""
    table = finished.snakemake("--detailed-summary", "--quiet", "all")
    lines = table[table.index("output_file\t") :].splitlines()
    found: dict[str, set[str]] = {}
    for row in csv.DictReader(lines, delimiter="\t"):
        found.setdefault(row["rule"], set()).update(row["input-file(s)"].split(","))
    return found


@pytest.fixture(scope="module")
def stale(finished) -> dict[str, set[str]]:
    """The stages of DVC with their changed inputs, when every file was edited."""
    with edited(finished, *READ_BY):
        return stages(finished)


@pytest.mark.parametrize("name", READ_BY)
def test_rules_and_stages_that_read_a_file(inputs, stale, name):
    expected_rules, expected_stages = READ_BY[name]
    assert {rule for rule, files in inputs.items() if name in files} == expected_rules
    places = {name, *map(str, Path(name).parents)}
    assert {stage for stage, changed in stale.items() if changed & places} == expected_stages


def test_a_rule_has_every_module_that_its_command_loads(finished, inputs):
    """Those that are imported by name too."""
    for rule in EVERYTHING:
        places = [Path("src", *name.split(".")) for name in finished.loaded(rule)]
        assert len(places) > 10
        for place in places:
            is_package = (finished.folder / place).is_dir()
            file = place / "__init__.py" if is_package else place.with_suffix(".py")
            assert str(file) in inputs[rule], f"rule {rule}"


@pytest.mark.parametrize("name", RERUN)
def test_what_runs_again_after_an_edit(finished, name):
    with edited(finished, name):
        assert rules(finished) == RERUN[name]


def test_nothing_runs_again_for_what_no_rule_reads(finished):
    with edited(finished, *(name for name, (readers, _) in READ_BY.items() if not readers)):
        assert rules(finished) == set()


@pytest.mark.parametrize("folder", ["results/records", "paper/results/other/records"])
def test_a_record_of_another_study_changes_the_claims_but_not_the_summary(finished, folder):
    with restored(finished, "params.yaml"):
        finished.change(studies__other__seeds=[1])  # so that its cells are none of micro's
        assert rules(finished) == {"report"}  # which shows params.yaml
        cell = json.loads(finished.run("imcl", "plan", "--json", "--study", "other"))[1]
        record = finished.folder / folder / f"{cell['cell']}-{cell['digest']}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("{}")
        assert rules(finished) == {"claims", *DOCUMENTS, "paper"}
        record.unlink()


def test_a_changed_claim_is_judged_again(finished):
    with restored(finished, "params.yaml"):
        finished.change(claims__evidence__seeds=5)
        assert rules(finished) == {"claims", *DOCUMENTS, "paper"}
        assert {*stages(finished)} == {"analysis", "paper"}


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
    assert not rules(finished)
    assert not stages(finished)
