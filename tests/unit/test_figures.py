"""The figures of a study, from records by hand."""

import pytest
from studies import ACCURACY, Study, by_name

from imcl.analysis.summary import Summary
from imcl.present import drawn, figures, tables
from imcl.present.by_method import Part, parts


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
    assert "transition-digits.pdf" in (build / "appendix.tex").read_text()
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
            "ResNet-18, clean labels": [],
            "ResNet-18, 20 % wrong labels": ["no records"],
            "VGG-16, clean labels": [],
            "VGG-16, 20 % wrong labels": [],
        }


def points(axes, method: str) -> list[tuple[float, str]]:
    """The means in a method's line of a panel, each with the colour inside its marker."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    return [
        (round(float(line.get_xdata()[0]), 2), line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() in ("o", "s", "D")
        and round(float(line.get_ydata()[0])) == names.index(method)
    ]


def test_what_is_significant_is_filled(study):
    """As the table of the differences has it in bold: output, but not kernel."""
    study.plan["noise"] = ["clean", "n20"]
    study.write(lambda cell: ACCURACY["base" if cell.noise else cell.method])
    documents = study.documents()
    summary, built = documents.summary, by_name(documents)
    part = whole(summary)
    rows = built["difference-to-base-digits"].rows()
    panel = figures.differences(summary, part, rows).axes[0]
    assert points(panel, "output") == [(10.33, figures.COLOURS[1])]
    assert points(panel, "kernel") == [(2, "white")]
    panel = figures.error_per_method(summary, part, built["error-digits"].rows()).axes[0]
    assert points(panel, "output") == [(7.67, figures.COLOURS[1])]
    assert points(panel, "kernel") == [(16, "white")]
    panel = figures.accuracy_by_noise(summary, part, built["noise-digits"].rows()).axes[0]
    # With wrong labels it equals base.
    assert points(panel, "output") == [(92.33, figures.COLOURS[1]), (82, "white")]


def test_only_with_more_than_two_noises_there_are_lines(study):
    def panel():
        documents = study.documents()
        rows = by_name(documents)["noise-digits"].rows()
        figure = figures.accuracy_by_noise(documents.summary, whole(documents.summary), rows)
        return figure and figure.axes[0]

    study.write(ACCURACY)
    assert panel() is None  # one noise
    study.plan["noise"] = ["clean", "n20", "n50"]
    study.write(ACCURACY)
    lines = [line for line in panel().lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in lines] == [3] * len(ACCURACY)


def test_several_parts_have_a_figure_over_all_settings(study):
    study.plan |= {"datasets": ["digits", "cifar10_5k"], "noise": ["clean", "n20"]}
    study.write(ACCURACY)
    documents = study.documents()
    shown = {name: table.rows() for name, table in by_name(documents).items()}
    figure = figures.aggregate(documents.summary, shown)
    assert [axes.get_title() for axes in figure.axes] == ["clean", "20 % wrong"]
    assert points(figure.axes[0], "output") == [(10.33, figures.COLOURS[1])]


def test_curves_are_drawn_for_four_methods_and_lines_for_seven(study):
    baselines = ["gce", "sce", "elr", "byot", "one"]
    study.plan["methods"] = ["output+kernel", *baselines, "output", "kernel", "all", "base"]
    study.plan["methods"].append("control")
    study.write(lambda cell: ACCURACY["base"])
    documents = study.documents()
    rows = by_name(documents)["curves-digits"].rows()
    figure = figures.learning_curves(documents.summary, whole(documents.summary), rows)
    found = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    assert list(found) == ["output", "all", "base", "control"]
    assert len(set(found.values())) == 4
    kept = ["gce", "sce", "output", "kernel", "all", "base", "control"]
    assert drawn.lines(study.plan["methods"]) == kept
    styles = {(style["color"], style["marker"]) for style in figures.STYLES}
    assert len(styles) == drawn.MOST_LINES
