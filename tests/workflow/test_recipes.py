"""The recipes of src/imcl/README.md work: a way, a baseline and a dataset are added as it says."""

import json
import re
from pathlib import Path

import pytest
from conftest import Checkout

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).resolve().parents[2]


def recipes(text: str) -> dict[str, str]:
    """The blocks of code by their first line, which says where they go."""
    blocks = re.findall(
        r"```\w+\n# (src/\S+\.py(?:: \w+)?|params\.yaml: \w+)\n(.*?)```", text, re.S
    )
    return dict(blocks)


def follow(folder: Path, blocks: dict[str, str]) -> None:
    """Write each file, and add each line below the one that opens its registry or section."""
    for place, code in blocks.items():
        name, _, section = place.partition(": ")
        path = folder / name
        if not section:
            assert not path.exists()
            path.write_text(code)
            continue
        text = path.read_text()
        opening = rf"^{section}:.*\{{$" if name.endswith(".py") else rf"^{section}:$"
        (line,) = re.findall(opening, text, re.M)
        path.write_text(text.replace(f"{line}\n", f"{line}\n{code}", 1))


@pytest.fixture(scope="module")
def extended(original: Checkout) -> tuple[Checkout, dict[str, str]]:
    """A copy of the project with all recipes followed; the cells' digests before and after."""
    before = digests(original)
    text = (original.folder / "src/imcl/README.md").read_text()
    follow(original.folder, recipes(text))
    original.run("python", "-m", "imcl", "schema", "--write")
    return original, before


def digests(copy: Checkout) -> dict[str, str]:
    """The digest of every cell of every committed study, from a process that reads the copy."""
    code = (
        "import json; from pathlib import Path; from imcl.study import grid; "
        "from imcl.study.load import load; settings = load(Path('params.yaml')); "
        "print(json.dumps({f'{study} {cell.name}': cell.digest for study in settings.studies "
        "for cell in grid.cells(settings, study)}))"
    )
    return json.loads(copy.run("python", "-c", code))


def test_the_page_has_a_file_and_a_line_for_each():
    text = (ROOT / "src/imcl/README.md").read_text()
    assert list(recipes(text)) == [
        "src/imcl/ways/sparsity.py",
        "src/imcl/study/options.py: WAYS",
        "params.yaml: studies",
        "src/imcl/baselines/margin.py",
        "src/imcl/study/options.py: BASELINES",
        "src/imcl/data/stripes.py",
        "src/imcl/study/sources.py: SOURCES",
        "params.yaml: datasets",
    ]


def test_no_committed_record_is_orphaned(extended):
    copy, before = extended
    after = digests(copy)
    assert {cell: digest for cell, digest in after.items() if cell in before} == before
    assert set(after) - set(before) == {
        f"toy stripes-clean-vgg16-{method}" for method in ("base", "sparsity", "margin")
    }
    assert "no faults" in copy.run("python", "-m", "imcl", "verify")


def test_a_cell_trains_with_each(extended):
    copy, _ = extended
    copy.run("python", "-m", "imcl", "run", "--study", "toy")
    terms = {}
    for path in (copy.folder / "results/records").glob("stripes-*.json"):
        record = json.loads(path.read_text())
        terms[record["config"]["method"]] = set(record["runs"][0]["history"][0]["terms"])
    assert terms == {
        "base": {"cross_entropy"},
        "sparsity": {"cross_entropy", "sparsity"},
        "margin": {"margin"},
    }
