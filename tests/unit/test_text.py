"""The paper's text: LaTeX from records by hand, and its typesetting."""

import pytest
from studies import ACCURACY, Study

from imcl.errors import ImclError
from imcl.present import latex, pdf, render


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
    template = latex.environment(study.project.templates).get_template("table.tex.j2")
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
