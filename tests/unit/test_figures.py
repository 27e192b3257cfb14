"""The figures of a study, from records by hand."""

import pytest
from studies import ACCURACY, Study, by_name

from imcl.analysis.summary import Summary
from imcl.present import drawn, figures, tables
from imcl.present.by_method import Part, parts
from imcl.study import methods


@pytest.fixture
def study(tmp_path) -> Study:
    return Study.make(tmp_path)


def whole(summary: Summary) -> Part:
    """The digits as the only part."""
    [part] = parts(summary, "digits")
    return part


def test_a_matrix_and_an_area_are_shown_where_they_were_measured(study):
    study.plan["noise"] = ["clean", "n20"]

    def change(cell, made):
        if cell.noise:
            made["noise"] |= {"realised_rate": 0.125, "nominal_rate": 0.1}
            made["noise"]["transition_matrix"] = [[0.75, 0.25], [0.0, 1.0]]
        for run in made["runs"]:
            run["final"]["roc_auc"] = 0.875

    study.write(ACCURACY, change)
    documents, build = study.documents(), study.project.build
    tables.write(study.project, documents)
    assert "transition-digits.pdf" in (build / "results.tex").read_text()
    assert "| 87.5 " in (build / "tables/calibration-digits.md").read_text()
    assert "12.50 %" in (build / "tables/data.md").read_text()
    assert build / "figures/transition-digits.png" in figures.write(study.project, documents)


def test_every_point_of_a_figure_lies_inside_its_panel(study):
    """Panels share their limits, and one must not cut off what another shows."""
    study.plan["backbones"] = ["resnet18", "vgg16"]
    shift = {"resnet18": 0.0, "vgg16": 0.5}
    study.write(lambda cell: [value - shift[cell.backbone] for value in ACCURACY[cell.method]])
    documents = study.documents()
    rows = by_name(documents)["error-digits"].rows()
    figure = figures.error_per_method(documents.summary, whole(documents.summary), rows)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        points = [x for line in axes.lines if line.get_marker() == "o" for x in line.get_xdata()]
        assert len(points) == 3
        assert all(low < x < high for x in points)


def test_a_panel_without_records_says_so(study):
    study.plan |= {"noise": ["clean", "n20"], "backbones": ["resnet18", "vgg16"]}
    missing = ("resnet18", "n20")
    study.write(lambda c: None if (c.backbone, c.noise_name) == missing else ACCURACY[c.method])
    documents = study.documents()
    built = by_name(documents)
    for draw, name in ((figures.error_per_method, "error"), (figures.learning_curves, "curves")):
        figure = draw(documents.summary, whole(documents.summary), built[f"{name}-digits"].rows())
        said = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in figure.axes}
        assert said == {
            "resnet18, clean": [],
            "resnet18, n20": ["no records"],
            "vgg16, clean": [],
            "vgg16, n20": [],
        }


def test_a_figure_of_the_combinations_where_enough_are_studied(study):
    study.plan["methods"] = methods.combined()
    study.write(lambda cell: [a + 0.01 * len(cell.ways) for a in (0.8, 0.82, 0.85)])
    documents = study.documents()
    summary = documents.summary
    rows = by_name(documents)["difference-to-base-digits"].rows()
    figure = figures.combinations(summary, whole(summary), rows)
    means = [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_marker() == "o"]
    expected = [len(methods.parse(name).ways) for name in methods.combined()[1:]]
    assert means == pytest.approx(expected)
    assert "difference-to-base-digits.pdf" in study.written("results.tex")
    cells = [row for row in summary["cells"] if row["method"] in ("base", "all")]
    few = {**summary, "cells": cells}
    assert figures.combinations(few, whole(few), rows) is None


def test_each_method_has_a_line_of_its_own_up_to_what_a_figure_can_tell_apart(study):
    baselines = ["gce", "sce", "elr", "byot", "one", "dml", "rdrop", "multihead", "label_smoothing"]
    single = ["output", "intermediate", "representation", "kernel"]
    study.plan["methods"] = ["output+kernel", *baselines, *single, "all", "control", "base"]  # 17
    study.write(lambda cell: ACCURACY["base"])

    def lines() -> dict[str, str]:
        documents = study.documents()
        rows = by_name(documents)["curves-digits"].rows()
        figure = figures.learning_curves(documents.summary, whole(documents.summary), rows)
        return {line.get_label(): line.get_color() for line in figure.axes[0].lines}

    found = lines()
    assert list(found) == [*baselines[:7], *single, "all", "control", "base"]
    assert len(set(found.values())) == 7
    text = study.written("results.tex")
    assert r"Not drawn: output+kernel, multihead, label\_smoothing." in text
    points = [(style["color"], style["markerfacecolor"]) for style in figures.STYLES]
    assert len(set(points)) == len(points) == drawn.MOST_LINES
    study.plan["methods"] = study.plan["methods"][3:]
    assert list(lines()) == study.plan["methods"]
    assert "Not drawn" not in study.written("results.tex")
