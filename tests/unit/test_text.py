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
    assert "accuracy is higher than that of base in 2 of 2 comparisons." in text
    assert "1 are significantly better than base and 0 significantly worse" in text
    assert "more are planned" not in text
    assert "Not trained" not in text


def test_what_was_not_trained_is_said_once(study):
    study.plan |= {"noise": ["clean", "n20", "worse"], "backbones": ["resnet18", "vgg16"]}
    study.plan["datasets"] = ["cifar10_5k"]
    study.plan["methods"] = ["base", "output", "kernel", "elr"]
    study.write(
        lambda cell: (
            None
            if cell.noise_name == "worse"
            or cell.method == "elr"
            or (cell.backbone, cell.method) == ("vgg16", "kernel")
            or (cell.setting[1:] == ("n20", "resnet18") and cell.method == "output")
            else ACCURACY[cell.method]
        )
    )
    said = (
        "Not trained: any method with CIFAR-10N worst labels; ELR in any setting; "
        "kernel (CIFAR-10, 5,000 images, clean labels, VGG-16); "
        r"output (CIFAR-10, 5,000 images, 20 \% wrong labels, ResNet-18); "
        r"kernel (CIFAR-10, 5,000 images, 20 \% wrong labels, VGG-16)."
    )
    assert said in study.written("results.tex")
    made = study.tables()["effects-cifar10_5k"]
    shown = {entry.text for group in made.groups for row in group for entry in row}
    assert render.MISSING not in shown
    assert "vgg16/kernel" not in made.rows()  # it has no number
    assert made.rows()["resnet18/output"]["n20 − base"].text == ""


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
    text = template.render(table=table, floating=True)
    assert r"\textbf{50 \% of a\_b \& c $\pm$ 1 $<$ 2}" in text
    assert r"\label{tab:t-a_b}" in text
    assert r"\caption{say \#1}" in text


def told(study: Study, values: dict[str, list[float]]) -> str:
    """The discussion of a study with these accuracies."""
    study.plan["methods"] = list(values)
    study.write(values)
    return study.written("discussion.tex")


BASE = ACCURACY["base"]
UP, DOWN = (
    [b + sign * d for b, d in zip(BASE, (0.05, 0.06, 0.04), strict=True)] for sign in (1, -1)
)
UNSURE = [BASE[0] + 0.05, BASE[1] - 0.05, BASE[2] + 0.01]
BEST = [value + 0.05 for value in UP]


def test_the_discussion_says_what_the_numbers_say(study):
    text = told(
        study,
        {
            "base": BASE,
            "control": DOWN,
            "output": BEST,
            "representation": UNSURE,
            "kernel": DOWN,
            "all": UP,
            "elr": BEST,
            "gce": UNSURE,
        },
    )
    assert r"The four ways together help, by +5.0 $\pm$ 2.5 points." in text
    assert r"Alone, \emph{output} (+10.0 $\pm$ 2.5) helps." in text
    assert r"Alone, \emph{kernel} ($-$5.0 $\pm$ 2.5) does harm." in text
    assert r"For \emph{representation} (+0.3 $\pm$ 12.5) the sign is undecided." in text
    assert r"are not better than the best of them alone (\emph{output})." in text
    assert r"does only that, changes the accuracy by $-$5.0 $\pm$ 2.5 points." in text
    assert r"Of the baselines, \emph{ELR} (+10.0 $\pm$ 2.5) is above all ways together." in text
    assert r"use \emph{output}: it was the best of what we trained, with +10.0" in text
    assert "passes each image through the network twice." in text


def test_another_outcome_gives_another_discussion(study):
    text = told(study, {"base": BASE, "control": UP, "output": UNSURE, "all": BEST, "elr": DOWN})
    assert "No way helps alone beyond its interval." in text
    assert "Together the ways are better than the best of them alone" in text
    assert "Part of a gain may come from seeing more augmentations" in text
    assert "No baseline that was trained is above all ways together." in text
    text = told(study, {"base": BASE, "all": DOWN, "default": UP})
    assert r"The package's default, which needs no setting, helps too (+5.0 $\pm$ 2.5)." in text
    assert r"use \emph{default}: it was the best of what we trained" in text
    text = told(study, {"base": BASE, "all": DOWN})
    assert r"The four ways together do harm, by $-$5.0 $\pm$ 2.5 points." in text
    assert "augmentations of each image" not in text
    assert "With clean labels, train plainly" in text
    text = told(study, {"base": BASE, "all": [value + 0.04 for value in BASE]})
    assert "Whether the four ways together help is undecided (+4.0 points)." in text


def test_the_abstract_states_effect_interval_n_and_scope(study):
    ledger = study.raw["claims"]["ledger"]
    ledger["label_noise"] |= {"datasets": ["digits"], "noise": ["clean"], "backbones": ["resnet18"]}
    ledger["label_noise"]["readings"] = {"epoch": ["last"]}
    study.raw["claims"]["evidence"] = {"seeds": 3, "width": 8, "epochs": 14}
    study.plan["methods"] = ["base", "all"]
    study.write({"base": BASE, "all": UP})
    text = study.written("abstract.tex")
    assert "We tested 1 of the abstract's 7 claims" in text
    assert "at this size: digits; width 8 of 64; n = 3 seeds." in text
    assert r"(clean labels, ResNet-18): we find +5.00 $\pm$ 2.48 points, so" in text
    assert r"\emph{reproduced, at reduced size}." in text
    assert r"\emph{all} is the best method that we trained, +5.0 $\pm$ 2.5 points above" in text


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
        for name in ("main.tex", "references.bib"):
            shutil.copy(ROOT / "paper" / name, study.project.paper)
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
