"""The PDF of a study's committed records: how long it is, and how it looks."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml
from handmade import ROOT
from matplotlib.image import imread

from imcl.present import figures, pdf, tables
from imcl.present.documents import Documents
from imcl.project import Project
from imcl.study.load import load

STUDY = "cpu"
MOST_PAGES = 8  # of the main part
MOST_TABLES = 4
MOST_DASHES = 4


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """The study's tables and, where there is LaTeX, its paper."""
    if shutil.which("pdftotext") is None or not pdf.can_build():
        pytest.skip("LaTeX or pdftotext is not installed")
    made = Project(tmp_path_factory.mktemp("paper"))
    for name in ("templates", "main.tex", "references.bib", "results"):
        made.paper.mkdir(exist_ok=True)
        (made.paper / name).symlink_to(ROOT / "paper" / name)
    (made.root / "params.yaml").symlink_to(ROOT / "params.yaml")
    documents = Documents.compute(made, load(made.params, STUDY), committed=True)
    tables.write(made, documents)
    figures.write(made, documents)
    pdf.write(made)
    return made


@pytest.fixture(scope="module")
def pages(project) -> list[str]:
    command = ["pdftotext", "-layout", str(project.build / "paper.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return text.rstrip("\f").split("\f")


def main_part(project: Project) -> int:
    """The number of pages up to the appendix."""
    text = (project.build / "paper.aux").read_text()
    [page] = re.findall(r"\\newlabel\{appendix\}\{\{[^}]*\}\{(\d+)\}", text)
    return int(page)


def floats(project: Project) -> list[str]:
    """The LaTeX of the tables in the main part."""
    found = [path.read_text() for path in (project.build / "tables").glob("*.tex")]
    return [text for text in found if r"\begin{table}" in text]


def test_the_main_part_has_six_to_eight_pages_and_few_tables(project, pages):
    assert 6 <= main_part(project) <= MOST_PAGES
    assert len(pages) > main_part(project)
    assert 1 <= len(floats(project)) <= MOST_TABLES


def test_its_tables_have_no_dashes_for_what_was_not_trained(project):
    dashes = sum(len(re.findall(r"(?:^|&) *-- *(?=&|\\)", t, re.M)) for t in floats(project))
    assert dashes <= MOST_DASHES


def test_nothing_is_wider_than_the_page_and_every_reference_is_known(project):
    log = (project.build / "paper.log").read_text(errors="replace")
    assert not re.findall(r"Overfull \\hbox.*", log)
    assert "undefined" not in log
    assert "warning$ -- 0" in (project.build / "paper.blg").read_text()


def test_no_page_before_the_last_is_more_than_a_third_empty(project):
    """The foot of each page is text; above it, ink has to reach down two thirds of the page."""
    command = ["pdftoppm", "-r", "20", "-gray", "-png", str(project.build / "paper.pdf")]
    folder = project.build / "pictures"
    folder.mkdir()
    subprocess.run([*command, str(folder / "page")], check=True, stderr=subprocess.DEVNULL)
    *pictures, _ = sorted(folder.iterdir())
    for picture in pictures:
        rows = imread(picture)
        ink = rows.reshape(len(rows), -1).min(axis=1) < 0.8
        body = ink[round(0.08 * len(ink)) : round(0.91 * len(ink))]  # without margins and footer
        assert max(np.flatnonzero(body)) > 2 / 3 * len(body), picture.name


def test_every_caption_has_three_lines_at_most(project):
    """A line of a caption holds about 105 letters."""
    texts = [
        path.read_text() for path in (project.paper / "main.tex", *project.build.rglob("*.tex"))
    ]
    captions = re.findall(r"\\caption\{(.+?)\}\s*\\label", "\n".join(texts), re.DOTALL)
    assert len(captions) > 20
    for caption in captions:
        assert len(" ".join(caption.split())) <= 3 * 105 - len("Table 10: "), caption


def test_the_authors_are_those_of_the_citation_file():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    authors = " and ".join(author["name"] for author in cited["authors"])
    assert rf"\author{{{authors}}}" in (ROOT / "paper/main.tex").read_text()
