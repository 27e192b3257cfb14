"""The HTML report in a real browser, and the RO-Crate beside it."""

import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from handmade import record
from rocrate.rocrate import ROCrate
from studies import MARKUP, Study, hostile

from imcl.files import sha256
from imcl.present import crate, html
from imcl.study import methods

CHROMIUM = shutil.which("chromium")
browser_only = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

MATRIX = [[8 if i == j else 1 for j in range(4)] for i in range(4)]
BINS = {"count": [0, 4, 6], "confidence": [0.0, 2.0, 5.4], "correct": [0, 1, 6]}


def large(folder: Path, cells: int = 200, epochs: int = html.POINTS) -> Study:
    """A study of 1,000 runs, or its first cells, with records in `folder`.

    Two datasets, five noises, two backbones, ten methods, five seeds. All runs have the same
    history, so it is turned into text once; the seal is that of `imcl.records.seal`.
    """
    study = Study.make(folder)
    study.plan |= {
        "datasets": ["cifar10", "cifar100"],
        "noise": ["clean", "n20", "n50", "n80", "asym40"],
        "backbones": ["resnet18", "vgg16"],
        "methods": ["control", *methods.combined()[:9]],
        "seeds": [1, 2, 3, 4, 5],
        "training": {"epochs": epochs, "warmup_epochs": 0},
        "evidence": False,  # so that the claims need not read 1,000 runs
    }
    study.project.records.mkdir(parents=True)
    history = ""
    for index, cell in enumerate(study.cells[:cells]):
        made = record(cell, [0.9 - 0.001 * index - 0.0001 * (index * s % 7) for s in range(5)])
        for run in made["runs"]:
            run["predictions"] = {"calibration": BINS, "confusion": MATRIX}
            (only,) = run["history"]
            history = history or json.dumps(curve(only, epochs), sort_keys=True)
            run["history"] = "the history"
        del made["seal"]
        text = json.dumps(made, sort_keys=True).replace('"the history"', history)
        seal = hashlib.sha256(text.encode()).hexdigest()
        study.project.record(cell.key).write_text(f'{text[:-1]}, "seal": "{seal}"}}')
    return study


def curve(only: dict, epochs: int) -> list[dict]:
    """A history of many epochs, made of its only one."""
    accuracies = (round(0.8 + 0.1 * (epoch * 37 % 200) / 200, 4) for epoch in range(1, epochs + 1))
    return [
        {**only, "epoch": epoch, "evaluation": {**only["evaluation"], "accuracy": accuracy}}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """The large study."""
    return large(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def report(study) -> Path:
    """Its report."""
    return html.write(study.project, study.documents())


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],  # as root, which CI is
        )
        yield launched
        launched.close()


@pytest.fixture
def page(report, browser):
    """The report, opened; in the end it must have logged no message and fetched nothing else."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    messages, requests = [], []
    opened.on("console", lambda m: messages.append(m.text))
    opened.on("pageerror", lambda e: messages.append(str(e)))
    opened.on("request", lambda r: requests.append(r.url))
    opened.goto(report.as_uri())
    opened.wait_for_selector("html[data-ready=true]")
    yield opened
    assert messages == []
    assert requests == [report.as_uri()]
    context.close()


def column(page, index: int) -> list[str]:
    """The texts of a column of the results, of the rows that are shown."""
    script = "(rows, index) => rows.filter(r => !r.hidden).map(r => r.children[index].innerText)"
    return page.locator("#grid tbody tr").evaluate_all(script, index)


def test_a_thousand_runs_fit_into_five_megabytes(report):
    assert report.stat().st_size < 5e6


def embedded(report: Path) -> dict:
    """The data in a report."""
    return json.loads(report.read_text().split('id="data">')[1].split("</script>")[0])


def test_a_long_learning_curve_is_thinned_and_keeps_its_end(report, tmp_path, monkeypatch):
    (full, *_) = embedded(report)["cells"]
    assert full["epochs"] == [*range(1, html.POINTS + 1)]
    monkeypatch.setattr(html.vl_convert, "javascript_bundle", str)  # takes seconds
    study = large(tmp_path, cells=1, epochs=200)
    (cell,) = embedded(html.write(study.project, study.documents()))["cells"]
    assert 50 < len(cell["epochs"]) <= html.POINTS + 1
    assert cell["epochs"][-1] == 200
    assert {len(curve) for curve in [*cell["curves"], cell["mean"], cell["half"]]} == {
        len(cell["epochs"])
    }


@browser_only
def test_it_sorts_by_number_and_back(page):
    heading = page.locator("#grid thead .sort", has_text="accuracy (%)")
    heading.click()
    shown = [float(text.split(" ±")[0]) for text in column(page, 5)]
    assert len(shown) == 200
    assert shown == sorted(shown)
    heading.click()
    shown = [float(text.split(" ±")[0]) for text in column(page, 5)]
    assert shown == sorted(shown, reverse=True)
    assert page.locator("#grid th[aria-sort=descending]").count() == 1
    page.locator("#grid thead .sort", has_text="to base").click()
    shown = column(page, 6)
    assert shown[-20:] == ["–"] * 20  # base has no difference to itself: gaps come last
    differences = [float(text.split(" ±")[0].replace("−", "-")) for text in shown[:-20]]
    assert min(differences) < 0 < max(differences)
    assert differences == sorted(differences)


@browser_only
def test_it_filters_by_text_and_choice(page):
    page.fill("#search", "cifar100 kernel")
    page.select_option("#filters select[data-column='2']", "n50")
    assert set(column(page, 1)) == {"cifar100"}
    assert set(column(page, 2)) == {"n50"}
    assert all("kernel" in name for name in column(page, 4))
    assert page.inner_text("#count") == f"{len(column(page, 4))} of 200 cells"
    page.click("#reset")
    assert page.inner_text("#count") == "200 of 200 cells"


@browser_only
def test_a_number_opens_its_runs_by_mouse_and_keyboard(page, study):
    button = page.locator("#grid tbody tr").nth(3).locator("button.open").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    text = dialog.inner_text()
    assert "The 5 runs behind this number" in text
    assert dialog.locator("table tbody tr").count() == 5
    data = json.loads(page.locator("#data").text_content())
    path = data["cells"][3]["record"]["path"]
    assert path in text
    assert sha256(study.project.root / path) in text
    assert "c" * 40 in text
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.locator("#grid tbody tr").nth(3).locator("button.open").nth(1).click()
    assert "The runs of 2 cells" in page.locator("dialog[open]").inner_text()


@browser_only
def test_every_chart_is_drawn_and_follows_what_is_chosen(page):
    sections = ("curves", "noise", "cost", "combinations", "redundancy")
    for name in (*sections, "calibration", "confusion", "transition"):
        page.locator(f"#{name}").scroll_into_view_if_needed()
        chart = page.locator(f"#{name}-chart svg")
        chart.wait_for()
        assert chart.locator(".mark-symbol path, .mark-rect path").count() > 3, name
    legend = "#curves-chart .role-legend .role-legend-label text"
    before = page.locator(legend).count()
    page.locator("#grid .pick").nth(30).check()
    page.wait_for_function(
        f"document.querySelectorAll({json.dumps(legend)}).length === {before + 1}"
    )


@browser_only
def test_costs_of_runs_are_compared_on_one_kind_of_machine_alone(tmp_path, browser):
    study = Study.make(tmp_path)
    study.plan |= {"methods": ["base", "output", "representation", "kernel"], "seeds": [1, 2]}

    def change(cell, made):
        if cell.method == "output":
            made["environment"]["device_name"] = "another machine"

    study.write(lambda cell: [0.5, 0.6], change)
    page = browser.new_page()
    page.goto(html.write(study.project, study.documents()).as_uri())
    page.locator("#cost").scroll_into_view_if_needed()
    page.locator("#cost-chart svg").wait_for()
    assert page.locator("#cost-chart .mark-symbol.role-mark path").count() == 2
    page.close()


@browser_only
def test_no_text_is_taken_for_markup_or_reorders_its_neighbours(tmp_path, browser):
    study = hostile(tmp_path)
    page, heard = browser.new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append("dialog"), dialog.dismiss()))
    page.goto(html.write(study.project, study.documents()).as_uri())
    page.wait_for_selector("html[data-ready=true]")
    assert MARKUP in page.locator("#claims summary").first.inner_text()
    assert page.locator("script").count() == 4
    page.locator("#grid button.open").first.click()
    assert "alert(1)" in page.locator("dialog[open]").inner_text()
    # The word after the machine's name stands to the right of the one before it, on its own line.
    place = """() => {
      const walk = document.createTreeWalker(document.querySelector("#provenance"), 4);
      for (let node; (node = walk.nextNode());) {
        const at = node.data.indexOf("threads 1");
        if (at < 0) continue;
        const box = (from, to) => {
          const range = document.createRange();
          range.setStart(node, from), range.setEnd(node, to);
          return range.getBoundingClientRect().left;
        };
        return [box(at, at + 1), box(at + 8, at + 9)];
      }
    }"""
    first, last = page.evaluate(place)
    assert first < last
    assert heard == []
    page.close()


@browser_only
def test_it_fits_a_phone_and_darkens(report, browser):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page = context.new_page()
    page.goto(report.as_uri())
    for name in ("curves", "combinations", "confusion"):
        page.locator(f"#{name}").scroll_into_view_if_needed()
        page.locator(f"#{name}-chart svg").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert ground == "rgb(20, 23, 27)"
    fill = page.locator("#curves-chart .role-axis-label text").first.get_attribute("fill")
    light = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')")
    assert fill == light.strip()
    assert ink == "rgb(230, 233, 237)"
    context.close()


def test_without_predictions_and_noise_there_is_a_report_too(tmp_path):
    study = Study.make(tmp_path)
    study.plan |= {"methods": ["base"], "seeds": [1]}
    study.write(lambda cell: [0.5])
    text = html.write(study.project, study.documents()).read_text()
    assert '"confusion":[[' not in text
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in text


def test_the_crate_names_every_record_with_what_made_it(tmp_path):
    study = large(tmp_path, cells=12, epochs=1)
    documents, project = study.documents(), study.project
    page = html.write(project, documents)
    metadata = crate.write(project, documents, [page, project.build / "paper.pdf"])
    read = ROCrate(metadata.parent)  # by the library, as an archive would
    assert read.root_dataset["identifier"] == documents.summary["digest"]
    assert read.get("report.html") is not None
    assert read.get("paper.pdf") is None  # it was not typeset
    actions = {
        entity.id: entity for entity in read.contextual_entities if entity.type == "CreateAction"
    }
    assert len(actions) == 12
    for row in documents.summary["cells"]:
        action = actions[f"#train-{row['key']}"]
        result = action["result"]
        copy = metadata.parent / unquote(result.id)
        assert sha256(copy) == row["record"]["sha256"] == result["sha256"]
        assert action["instrument"]["softwareVersion"] == f"commit {'c' * 40}"
        objects = {entity.id for entity in action["object"]}
        assert {"params.yaml", f"#data-{row['dataset']}"} <= objects
