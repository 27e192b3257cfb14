"""The paper's text: LaTeX from records by hand, and its typesetting."""

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from handmade import ROOT
from markdown_it import MarkdownIt
from studies import ACCURACY, HOSTILE, MARKUP, RIGHT_TO_LEFT, Study, hostile

from imcl.cli import main
from imcl.errors import ImclError
from imcl.present import claims, figures, latex, pdf, render, tables


@pytest.fixture
def study(tmp_path) -> Study:
    return Study.make(tmp_path)


def test_the_results_count_what_the_table_shows(study):
    study.write(ACCURACY)
    text = study.written("results.tex")
    assert "In 2 of 2 comparisons with base, the mean test accuracy is higher." in text
    assert "1 are significantly better than base and 0 significantly worse" in text
    assert "Better: output on resnet18 with clean labels." in text
    assert "Worse" not in text
    assert "still missing" not in text


def test_records_of_different_code_are_all_named(study):
    def change(cell, made):
        if cell.method == "output":
            made["code"] |= {"commit": "d" * 40, "modified": True}

    study.write(ACCURACY, change)
    text = study.written("numbers.tex")
    assert r"\newcommand{\StudyCommit}{cccccccccccc, dddddddddddd (modified)}" in text


def test_latex_shows_texts_character_by_character_and_keeps_names(study):
    entry = render.Entry("50 % of a_b & c ± 1 < 2", bold=True)
    table = render.Table("t-a_b", "say #1", ["x"], [[[entry]]])
    template = latex.environment(study.project.templates, study.project.root).get_template(
        "table.tex.j2"
    )
    text = template.render(table=table)
    assert r"\textbf{50 \% of a\_b \& c $\pm$ 1 $<$ 2}" in text
    assert r"\label{tab:t-a_b}" in text
    assert r"\caption{say \#1}" in text


def test_the_discussion_says_what_the_table_shows(study):
    others = ["output", "kernel", "output+kernel", "output+intermediate+kernel"]
    others += ["elr", "elr+kernel"]
    study.plan["methods"] = ["base", "control", *others, "all"]
    values = ACCURACY | {"control": [0.81, 0.84, 0.87], "all": [0.90, 0.93, 0.94]}
    values |= {"output+kernel": [0.82, 0.83, 0.90], "elr": [0.70, 0.73, 0.74]}
    values |= {"output+intermediate+kernel": [0.83, 0.84, 0.88], "elr+kernel": [0.81, 0.82, 0.86]}
    study.write(values)
    text = study.written("discussion.tex")
    assert r"82.0 $\pm$ 5.0\,\% of the images correctly, 1.0 points less than at its" in text
    assert r"fits 50.0\,\% of its training labels" in text
    assert r"by +10.3 $\pm$ 1.4 points (significant)." in text
    assert r"without any way (control) change it by +2.0 $\pm$ 2.5 points; adding the" in text
    assert r"to control changes it by +8.3 $\pm$ 2.9 (significant)." in text
    by = "change it by these points:"
    alone = r"output +10.3 $\pm$ 1.4 (significant), kernel +2.0 $\pm$ 2.5."
    assert f"Single ways {by} {alone}" in text
    pair, triple = r"+3.0 $\pm$ 6.6", r"+3.0 $\pm$ 2.5"
    together = f"output+kernel {pair}, output+intermediate+kernel {triple}."
    assert f"Combinations of ways {by} {together}" in text
    assert rf"Baselines {by} elr $-$9.7 $\pm$ 1.4 (significant)." in text
    assert rf"Baselines with ways {by} elr+kernel +1.0 $\pm$ 2.5." in text
    assert r"\item No module is duplicated. Verdict: \emph{not tested} (0 of 1 readings" in text


def test_the_discussion_is_silent_on_what_was_not_tested(study):
    """Without a control nothing is said of the views; equal differences are no test."""
    study.plan["methods"] = ["base", "all"]
    study.write({"base": ACCURACY["base"], "all": [value + 0.04 for value in ACCURACY["base"]]})
    text = study.written("discussion.tex")
    assert "change the accuracy by +4.0 points." in text
    assert "augmentations" not in text
    assert "significant" not in text


def test_without_tex_one_line_says_what_to_install(monkeypatch, study):
    monkeypatch.setenv("PATH", "")
    assert not pdf.can_build()
    with pytest.raises(
        ImclError, match="apt-get install texlive-latex-recommended lmodern latexmk"
    ):
        pdf.write(study.project)


@pytest.mark.skipif(not pdf.can_build(), reason="latexmk is not installed")
def test_a_fault_in_the_paper_is_named(study):
    (study.project.paper / "main.tex").write_text("\\documentclass{article}\n\\oops\n")
    with pytest.raises(ImclError, match="Undefined control sequence"):
        pdf.write(study.project)


# Texts that mean something to the documents' languages ------------------------------------------


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Study:
    """The hostile study with its tables, figures and, where there is LaTeX, its paper."""
    study = hostile(tmp_path_factory.mktemp("hostile"))
    study.save()
    documents = study.documents()
    tables.write(study.project, documents)
    figures.write(study.project, documents)
    if pdf.can_build():
        shutil.copy(ROOT / "paper/main.tex", study.project.paper)
        pdf.write(study.project)
    return study


def read_markdown(path: Path) -> tuple[list[str], list[str]]:
    """The texts of a file as CommonMark reads them, and the kinds of all that is no plain text."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    inside = [token.children for token in parser.parse(path.read_text()) if token.children]
    kinds = [token.type for children in inside for token in children]
    texts = ["".join(token.content for token in children) for children in inside]
    return texts, [kind for kind in kinds if kind not in ("text", "text_special")]


def plain(text: str) -> str:
    """Without the marks around texts from right to left."""
    return re.sub("[\u2066-\u2069]", "", text)


@pytest.mark.parametrize("name", ["claims", "settings", "growth-cpu", "overhead-cpu"])
def test_markdown_shows_every_text_character_by_character(rendered, name):
    texts, kinds = read_markdown(rendered.project.build / f"tables/{name}.md")
    assert plain(HOSTILE) in " ".join(map(plain, texts)) or name == "growth-cpu"
    assert MARKUP in " ".join(texts)
    assert set(kinds) <= {"strong_open", "strong_close"}


def test_a_text_from_right_to_left_ends_where_it_ends():
    """By the rules of Unicode: every isolate ends, and none ends that the text did not begin."""
    for text in (RIGHT_TO_LEFT, HOSTILE, "\u2067a", "\u2069\u2069a\u202e", "א\u2066\u2066"):
        shown, depth = render.isolated(text), 0
        assert plain(shown) == plain(text)
        for character in shown[:-1]:
            depth += unicodedata.bidirectional(character) in ("LRI", "RLI", "FSI")
            depth -= unicodedata.bidirectional(character) == "PDI"
            assert depth >= 1
        assert depth == 1
        assert shown[-1] == "\u2069"
    assert render.isolated("a + 1 ± 2 %") == "a + 1 ± 2 %"


def test_a_table_between_marks_is_replaced_whatever_it_holds(rendered, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- claims -->\n<!-- /claims -->\nb\n")
    table = claims.table(rendered.documents().claims)
    for _ in range(2):
        render.insert(readme, "claims", table)
        assert readme.read_text().count("<!-- /claims -->") == 1
        assert readme.read_text().endswith("<!-- /claims -->\nb\n")


def test_latex_takes_no_text_for_an_option_or_a_dash(tmp_path):
    assert latex.escape("[a]* -- ``b'' ?`", tmp_path) == r"{[}a{]}{*} -{}- `{}`b'{}' ?{}`"
    assert list(tmp_path.iterdir()) == []
    words = latex.escape("see שלום עולם", tmp_path)
    assert re.fullmatch(r"see \\beginR (\\raisebox\{.*\}\}? ?){2}\\endR", words)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2
    latex.escape("עולם שלום", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(not pdf.can_build(), reason="latexmk is not installed")
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed")
def test_the_paper_shows_every_text(rendered):
    command = ["pdftotext", str(rendered.project.build / "paper.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = {plain(word) for word in text.split()}
    for word in (
        "</script><script>alert(1)</script>",
        "[x](http://a.b)",
        "&lt;",
        "a_b",
        "~~{~^}~~",
    ):
        assert word in words
    for letters in ("evil[U+202C]", "abc [U+202E]", "שלום", "עולם", "العربية"):
        assert letters in text


def test_a_figure_takes_no_text_for_a_formula(rendered):
    found = rendered.documents().measurements
    (growth,) = [each for each in found.values() if each["bench"] == "growth"]
    (axes,) = figures.growth(growth).axes
    assert axes.get_legend().get_texts()[0].get_text().startswith(r"\$\oops\$ ")
    assert (rendered.project.build / "figures/growth-cpu.png").stat().st_size > 10_000


def test_a_terminal_gets_nothing_that_it_obeys(rendered, capsys):
    root = f"--project={rendered.project.root}"
    assert main(["claims", root]) == 0
    assert main(["trace", root, "accuracy-mine:resnet18/kernel:clean"]) == 0
    out = capsys.readouterr().out
    assert r"\u202eevil\u202c" in out
    assert "שלום" in out
    assert all(character.isprintable() or character == "\n" for character in out)
