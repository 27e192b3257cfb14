"""The paper and the report from committed records alone, through real Snakemake and TeX.

The tests are in the order in which a reader would do these things, on one checkout.
"""

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

from imcl.files import write_json
from imcl.present.pdf import can_build
from imcl.records.seal import sealed

pytestmark = pytest.mark.workflow

COMMITTED = ("--config", "records=committed")


def pages(pdf) -> list[str]:
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True).stdout
    return text.rstrip("\f").split("\f")


def test_committed_records_give_everything_with_no_data_and_no_training(original):
    output = original.snakemake(*COMMITTED)
    assert set(re.findall(r"^Job \d+: (\w+)", output, flags=re.MULTILINE)) <= {
        *("summarise", "judge", "list", "render", "draw", "make", "typeset")
    }
    assert not (original.folder / "data").exists()
    assert not (original.folder / "results/records").exists()
    build = original.folder / "paper/build"
    ours = (ROOT / "paper/results/quick/accuracy-digits.md").read_text()
    assert (build / "tables/accuracy-digits.md").read_text() == ours
    assert (build / "report.html").stat().st_size > 1e5
    crate = json.loads((build / "crate/ro-crate-metadata.json").read_text())
    actions = [entity for entity in crate["@graph"] if entity["@type"] == "CreateAction"]
    assert len(actions) == len(list((ROOT / "paper/results/quick/records").iterdir()))
    assert "Nothing to be done" in original.snakemake("--dry-run", *COMMITTED)


@pytest.mark.skipif(
    not can_build() or shutil.which("pdftotext") is None, reason="TeX or pdftotext is not installed"
)
def test_every_page_carries_the_commit_and_the_studys_digest(original):
    (summary,) = (original.folder / "results/summary").iterdir()
    study = json.loads(summary.read_text())
    found = pages(original.folder / "paper/build/paper.pdf")
    assert len(found) > 5
    for page in found:
        footer = page.strip().splitlines()[-1]
        assert f"study quick {study['digest']}" in footer
        for code in study["code"]:
            assert f"commit {code['commit'][:12]}" in footer or len(study["code"]) > 1


def test_a_digit_changed_in_a_committed_record_and_sealed_is_in_the_table_and_the_trace(original):
    place = "accuracy-digits:resnet18/base:clean"
    before = json.loads(original.run("imcl", "trace", "--json", place))
    (source,) = before["sources"]
    path = original.folder / source["path"]
    record = json.loads(path.read_text())
    del record["seal"]
    record["runs"][0]["final"]["accuracy"] -= 0.1
    write_json(path, sealed(record))
    original.snakemake(*COMMITTED)
    after = json.loads(original.run("imcl", "trace", "--json", place))
    assert after["value"]["mean"] == pytest.approx(
        before["value"]["mean"] - 10 / len(record["runs"])
    )
    assert after["sources"][0]["sha256"] != source["sha256"]
    build = original.folder / "paper/build"
    assert after["shown"] in (build / "tables/accuracy-digits.md").read_text()
    assert f">{after['shown']}</button>" in (build / "report.html").read_text()


def test_snakemakes_own_report_has_captions(original):
    original.snakemake("--report", "snakemake.html", *COMMITTED)
    text = (original.folder / "snakemake.html").read_text()
    assert "error-digits.png" in text
    assert "Differences are paired" in text
    assert "needs no network" in text


def test_a_study_is_shown_as_far_as_its_committed_records_go(original):
    folder = original.folder / "paper/results/quick/records"
    record = folder / next(p.name for p in folder.iterdir() if "n50-vgg16-all-" in p.name)
    stray = record.rename(record.with_name("digits-n50-vgg16-all-000000000000.json"))
    output = original.snakemake(*COMMITTED, code=1)
    assert f"paper/results/quick/records/{stray.name} and 0 more belong to no cell" in output
    stray.unlink()
    assert "train " not in original.snakemake(*COMMITTED)
    assert not (original.folder / "results/records").exists()
    row = r"\| VGG-16 +\| all +\| [\d.]+ ± [\d.]+ +\| +\|"
    assert re.search(row, (original.folder / "paper/build/tables/accuracy-digits.md").read_text())
    report = (original.folder / "paper/build/report.html").read_text()
    assert re.search(r">27</button> of 28 planned cells", report)


def test_a_study_without_committed_records_is_refused(original):
    output = original.snakemake("--config", "study=gpu", "records=committed", code=1)
    assert "study gpu has no records in paper/results/gpu/records; choose another" in output


def test_records_of_another_study_made_here_are_no_hindrance(original):
    """As after `make reproduce`: they are no inputs, and the claims are not read from them."""
    here = original.folder / "results/records"
    base, kernel = (
        next((ROOT / "paper/results/every/records").glob(f"digits-n50-vgg16-{method}-*"))
        for method in ("base", "kernel")
    )
    shutil.rmtree(original.folder / "results")  # so that everything has to be made
    here.mkdir(parents=True)
    shutil.copy(base, here)
    output = original.tables(*COMMITTED)
    assert "summarise study quick" in output
    assert "judge the claims" in output
    assert "train " not in output
    shutil.copy(kernel, here)
    assert "Nothing to be done" in original.tables(*COMMITTED)
    shutil.rmtree(here)


def test_an_unknown_origin_of_records_is_refused(original):
    output = original.snakemake("--config", "records=comitted", code=1)
    assert (
        "--config records=comitted: unknown origin 'comitted'; did you mean 'committed'?" in output
    )
