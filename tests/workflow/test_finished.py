"""A project whose study is finished: what is checked there, and what must not disturb it."""

import shutil

import pytest
from conftest import Checkout

pytestmark = pytest.mark.workflow


def test_everything_that_was_made_is_verified(finished: Checkout):
    # As in a project of one's own: without the committed studies and the texts that show them.
    for study in (finished.folder / "paper/results").glob("*/records"):
        shutil.rmtree(study.parent)
    for readme in ("README.md", "paper/README.md"):
        (finished.folder / readme).unlink()
    finished.commit("my own project")
    output = finished.run("imcl", "verify")
    last = output.splitlines()[-1]
    assert last.startswith("results/records: 6 records, ") and last.endswith(" no faults")
    tables = finished.folder / "paper/build/tables"
    table = next(tables.glob("accuracy-*.md"))
    table.write_text(table.read_text().replace("base", "bass"))
    assert f"paper/build/tables/{table.name}: " in finished.run("imcl", "verify", code=1)


def test_a_file_that_is_no_record_disturbs_no_engine(finished: Checkout):
    for name in ("copy(.json", "a {b}.json"):
        (finished.folder / "results/records" / name).touch()
    assert "Nothing to be done" in finished.snakemake("records", "--dry-run")
