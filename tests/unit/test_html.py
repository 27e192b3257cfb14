"""The HTML report in a real browser, and the RO-Crate beside it."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from handmade import record
from rocrate.rocrate import ROCrate
from studies import MARKUP, Study, hostile

from imcl.files import sha256
from imcl.present import crate, html
from imcl.present.documents import Documents
from imcl.study import methods

CHROMIUM = shutil.which("chromium")
browser_only = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# What the studies of these tests vary.
LARGE = {
    "datasets": ["cifar10"],
    "noise": ["clean", "n20", "n50", "n80", "asym40"],
    "backbones": ["resnet18", "vgg16"],
    "methods": ["control", *methods.combined()[:9]],
    "seeds": [1, 2, 3, 4, 5],
}
SMALL = {
    **LARGE,
    "noise": ["clean", "n50"],
    "methods": ["base", "control", "output", "kernel", "all", "elr"],
    "seeds": [1, 2, 3],
}


def recorded(folder: Path, plan: dict, cells: int | None = None, epochs: int = 20) -> Study:
    """A study with records of its first cells, or of all.

    The runs of a seed have the same history, so it is turned into text once; the seal is that of
    `imcl.records.seal`.
    """
    study = Study.make(folder)
    study.plan |= {
        **plan,
        "training": {"epochs": epochs, "warmup_epochs": 0},
        "evidence": False,  # so that the claims need not read all runs
    }
    study.project.records.mkdir(parents=True)
    histories: dict[int, str] = {}
    for index, cell in enumerate(study.cells[:cells]):
        spread = (0.001 * ((3 * index + seed * seed) % 7) for seed in cell.seeds)
        made = record(cell, [0.8 + 0.01 * (5 * index % 11) + each for each in spread])
        for run in made["runs"]:
            run["predictions"] = predictions(index)
            run["final"]["kernel_cosine"] += 0.001 * index
            (only,) = run["history"]
            seed = run["seed"]
            if seed not in histories:
                histories[seed] = json.dumps(curve(only, epochs, seed), sort_keys=True)
            run["history"] = f"history {seed}"
        del made["seal"]
        text = json.dumps(made, sort_keys=True)
        for seed, history in histories.items():
            text = text.replace(f'"history {seed}"', history)
        seal = hashlib.sha256(text.encode()).hexdigest()
        study.project.record(cell.key).write_text(f'{text[:-1]}, "seal": "{seal}"}}')
    return study


def predictions(index: int) -> dict:
    """Made up, but different for each cell."""
    return {
        "calibration": {
            "count": [0, 4, 6],
            "confidence": [0.0, 2.0 + 0.01 * index, 5.4],
            "correct": [0, 1, 6],
        },
        "confusion": [[8 + index if i == j else 1 for j in range(10)] for i in range(10)],
    }


def curve(only: dict, epochs: int, seed: int) -> list[dict]:
    """A history of many epochs, made of its only one."""
    rising = (0.8 + 0.1 * (epoch * (36 + seed) % 200) / 200 for epoch in range(1, epochs + 1))
    accuracies = (round(accuracy, 4) for accuracy in rising)
    return [
        {**only, "epoch": epoch, "evaluation": {**only["evaluation"], "accuracy": accuracy}}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return recorded(tmp_path_factory.mktemp("report"), SMALL)


@pytest.fixture(scope="module")
def documents(study) -> Documents:
    return study.documents()


@pytest.fixture(scope="module")
def report(study, documents) -> Path:
    """Its report."""
    return html.write(study.project, documents)


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
def opened(report, browser):
    """A function that opens the report in a window.

    In the end no window must have logged a message, or fetched anything but the report.
    """
    contexts, messages, requests = [], [], []

    def open_report(width: int = 1280, search: str = "", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: messages.append(m.text))
        page.on("pageerror", lambda e: messages.append(str(e)))
        page.on("request", lambda r: requests.append(r.url))
        page.goto(report.as_uri() + search)
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert messages == []
    # The pictures of CSV files are made in the page.
    assert {re.sub("[?#].*", "", url) for url in requests} == {report.as_uri()}


@pytest.fixture
def page(opened):
    """The report in a window of usual width, without smooth scrolling."""
    return opened(reduced_motion="reduce")


def column(page, index: int) -> list[str]:
    """The texts of a column of the results, of the rows that are shown."""
    script = "(rows, index) => rows.filter(r => !r.hidden).map(r => r.children[index].innerText)"
    return page.locator("#grid tbody tr").evaluate_all(script, index)


def test_a_hundred_cells_fit_into_one_and_a_half_megabytes(tmp_path):
    study = recorded(tmp_path, LARGE, epochs=html.POINTS)
    report = html.write(study.project, study.documents())
    assert len(embedded(report)["cells"]) == 100
    assert report.stat().st_size < 1.5e6


def test_it_allows_its_own_script_and_style_alone(report):
    text = report.read_text()
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert " style=" not in text


def embedded(report: Path) -> dict:
    """The data in a report."""
    return json.loads(report.read_text().split('id="data">')[1].split("</script>")[0])


def test_a_long_learning_curve_is_thinned_and_keeps_its_end(report, tmp_path):
    (full, *_) = embedded(report)["cells"]
    assert full["epochs"] == [*range(1, 21)]
    study = recorded(tmp_path, SMALL, cells=1, epochs=200)
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
    shown = [float(text.split(" ±")[0]) for text in column(page, 4)]
    assert len(shown) == 24
    assert shown == sorted(shown)
    heading.click()
    shown = [float(text.split(" ±")[0]) for text in column(page, 4)]
    assert shown == sorted(shown, reverse=True)
    assert page.locator("#grid th[aria-sort=descending]").count() == 1
    page.locator("#grid thead .sort", has_text="to base").click()
    shown = column(page, 5)
    assert shown[-4:] == ["–"] * 4  # base has no difference to itself: gaps come last
    differences = [float(text.split(" ±")[0].replace("−", "-")) for text in shown[:-4]]
    assert min(differences) < 0 < max(differences)
    assert differences == sorted(differences)


@browser_only
def test_it_filters_by_text_and_choice_and_hides_columns(page):
    page.fill("#search", "vgg16 kernel")
    page.select_option("[name=only-noise]", "n50")
    assert set(column(page, 2)) == {"50 % wrong labels"}
    assert set(column(page, 3)) == {"VGG-16"}
    assert all("kernel" in name for name in column(page, 0))
    assert page.inner_text("#count") == f"{len(column(page, 0))} of 24 cells"
    page.click("#reset")
    assert page.inner_text("#count") == "24 of 24 cells"
    page.click("[popovertarget=columns]")
    page.uncheck("[name=column][value=NLL]")
    page.keyboard.press("Escape")
    nll = page.locator("#grid [data-label=NLL]")
    assert nll.count() == 1 + 24
    assert not nll.first.is_visible()
    # However far the table is scrolled, the method stays in sight.
    page.locator("#grid").evaluate("table => { table.parentElement.scrollLeft = 500 }")
    left = (
        "cell => cell.getBoundingClientRect().left"
        " - cell.closest('.scroll').getBoundingClientRect().left"
    )
    assert page.locator("#grid tbody th").first.evaluate(left) < 2
    assert page.locator("#grid tbody td").first.evaluate(left) < 0


CHARTS = ("effects", "curves", "noise", "cost", "redundancy", "calibration", "confusion")


@browser_only
def test_all_charts_follow_the_labels_and_say_what_they_show(page):
    def drawn() -> dict[str, str]:
        return {
            name: page.locator(f"#{name}-plot").evaluate("e => e.innerHTML")
            for name in (*CHARTS, "transition")
        }

    def findings() -> dict[str, str]:
        return {name: page.inner_text(f"#{name}-finding") for name in (*CHARTS, "transition")}

    page.check("[name=noise][value=n50]", force=True)
    before, said = drawn(), findings()
    page.check("[name=noise][value=clean]", force=True)
    for name, picture in drawn().items():
        assert picture != before[name], name
        assert "clean" in findings()[name] or name == "cost", name
        if name not in ("confusion", "transition"):
            assert page.locator(f"#{name}-plot svg .point").count() >= 3, name
            label = page.locator(f"#{name}-plot > svg").get_attribute("aria-label")
            assert label == findings()[name] != said[name] or name == "noise", name
    colours = page.evaluate(
        """Object.fromEntries(["effects", "curves", "noise", "cost"].map(name => [name,
          Object.fromEntries([...document.querySelectorAll(`#${name}-plot [role=button]`)].map(
            p => [p.ariaLabel.split(/[:,]/)[0], getComputedStyle(p.lastChild).fill]))]))"""
    )
    for name, found in colours.items():  # one colour for a method everywhere
        assert len(found) > 2, name
        assert found.items() <= {**colours["noise"], **colours["effects"]}.items(), name


@browser_only
def test_methods_are_chosen_for_all_charts(page):
    page.click("#methods-open")
    page.uncheck("[name=method][value=output]")
    page.keyboard.press("Escape")
    legend = page.locator("#curves-plot .legend").inner_text().split("\n")
    assert "output" not in legend
    assert "base" in legend
    assert page.inner_text("#methods-count") == f"{len(legend)} of 6"


@browser_only
def test_the_address_keeps_what_is_chosen(page, opened):
    page.check("[name=noise][value=clean]", force=True)
    page.check("[name=backbone][value=resnet18]", force=True)
    page.click("#methods-open")
    page.uncheck("[name=method][value=control]")
    page.keyboard.press("Escape")
    page.fill("#search", "kernel")
    page.locator("#grid thead .sort", has_text="ECE").click()
    page.locator("#grid thead .sort", has_text="ECE").click()
    again = opened(search="?" + page.url.partition("?")[2], reduced_motion="reduce")
    for script in (
        "document.querySelector('#curves-plot').innerHTML",
        "document.querySelector('#effects-finding').innerText",
        "document.querySelector('#count').innerText",
        "document.querySelector('#grid [aria-sort=descending]').innerText",
    ):
        assert again.evaluate(script) == page.evaluate(script)
    assert again.is_checked("[name=noise][value=clean]")
    assert not again.is_checked("[name=method][value=control]")


@browser_only
@pytest.mark.parametrize("width", [390, 1280])
def test_links_land_on_their_targets(opened, width):
    page = opened(width, reduced_motion="reduce")
    landed = page.evaluate(
        """[...document.querySelectorAll("nav a")].map(link => {
          link.click();
          const place = selector => document.querySelector(selector).getBoundingClientRect();
          const bar = place("#setting");
          return [link.hash, place(link.hash).top, place(`${link.hash} h2`).top,
            bar.top < 5 ? bar.bottom : 0];
        })"""
    )
    assert len(landed) > 10
    for target, top, title, covered in landed:
        assert 0 <= top <= 80, target
        assert covered <= title, target  # the bar stays at the top of the window
    assert max(covered for *_, covered in landed) > 40
    # A link from elsewhere lands there too, and nothing moves afterwards.
    page = opened(width, "#redundancy")
    page.wait_for_timeout(500)
    top = page.evaluate("document.querySelector('#redundancy').getBoundingClientRect().top")
    assert 0 <= top <= 80


@browser_only
def test_it_needs_no_mouse(page, study):
    def focus() -> str:
        return page.evaluate("document.activeElement.id || document.activeElement.className")

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches({json.dumps(selector)})"):
                return
        raise AssertionError(f"the tab key does not reach {selector} within 60 steps")

    page.keyboard.press("Tab")
    assert focus() == "skip"
    page.keyboard.press("Enter")
    tab_to(".card summary")
    page.keyboard.press("Enter")
    assert page.locator(".card details[open]").count() == 1
    tab_to("[name=noise]")
    before = page.inner_text("#effects-finding")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#effects-finding") != before
    tab_to(".term")
    page.keyboard.press("Enter")
    assert page.locator(".meaning:popover-open").inner_text().startswith("95 % t-interval")
    page.keyboard.press("Escape")
    tab_to(".part[data-way=kernel]")
    page.keyboard.press("Enter")
    assert page.locator(".way:visible h3").inner_text() == "kernel"
    tab_to("#effects [role=button]")
    first = page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("ArrowDown")
    second = page.evaluate("document.activeElement.ariaLabel")
    assert first != second
    assert page.inner_text("#effects-reading") == second
    page.keyboard.press("Enter")
    assert "The runs of 2 cells" in page.locator("dialog[open]").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.ariaLabel") == second
    tab_to("#grid .open")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    text = dialog.inner_text()
    assert "The 3 runs behind this number" in text
    assert dialog.locator("table tbody tr").count() == 3
    path = json.loads(page.locator("#data").text_content())["cells"][0]["record"]["path"]
    assert path in text
    assert sha256(study.project.root / path) in text
    assert "c" * 40 in text


def saved(page, button: str) -> list[dict[str, str]]:
    """The lines of the CSV file that a button saves."""
    with page.expect_download() as download:
        page.locator(button).first.dispatch_event("click")
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


@browser_only
def test_the_csv_of_each_chart_and_table_holds_the_numbers_of_the_summary(page, documents):
    def close(*values: float) -> list:
        return [pytest.approx(value, abs=1e-4) for value in values]

    page.check("[name=noise][value=n50]", force=True)
    page.check("[name=backbone][value=vgg16]", force=True)
    page.locator("#methods-all").dispatch_event("click")
    rows = {
        row["method"]: row
        for row in documents.summary["cells"]
        if (row["noise"], row["backbone"]) == ("n50", "vgg16")
    }
    assert len(rows) == 6

    def both(estimate: dict) -> list:
        return close(100 * estimate["mean"], 100 * estimate["half_width"])

    effects = saved(page, "[data-chart=effects]")
    assert {line["method"] for line in effects} == {*rows} - {"base"}
    for line in effects:
        found = rows[line["method"]]["difference_to_base"]
        assert [float(line["difference"]), float(line["half_width"])] == both(found)
        assert [float(line[f"seed {seed}"]) for seed in range(1, 4)] == close(
            *(100 * value for value in found["values"])
        )
    curves = saved(page, "[data-chart=curves]")
    assert len(curves) == 6 * 20
    for line in curves:
        point = rows[line["method"]]["history"][int(line["epoch"]) - 1]
        assert [float(line["accuracy"]), float(line["half_width"])] == both(point["accuracy"])
    lines = saved(page, "[data-chart=noise]")
    assert len(lines) == 12
    for line in lines:
        if line["noise"] == "n50":
            row = rows[line["method"]]
            assert float(line["rate"]) == 50
            assert [float(line["accuracy"]), float(line["half_width"])] == both(
                row["estimates"]["accuracy"]
            )
    for line in saved(page, "[data-chart=cost]"):
        assert float(line["cost"]) == rows[line["method"]]["cost_to_base"]["time"]
    for line in saved(page, "[data-chart=redundancy]"):
        estimates = rows[line["method"]]["estimates"]
        assert [float(line["channels"]), float(line["kernels"])] == close(
            1000 * estimates["channel_correlation"]["mean"],
            1000 * estimates["kernel_cosine"]["mean"],
        )
    bins = saved(page, "[data-chart=calibration]")
    assert [
        (line["method"], *map(float, (line["confidence"], line["correct"], line["count"])))
        for line in bins
    ] == [
        (method, *close(bin["confidence"], bin["correct"]), bin["count"])
        for method, row in rows.items()
        for bin in row["calibration"]
    ]
    confusion, method = saved(page, "[data-chart=confusion]"), page.input_value("#confusion-method")
    assert [line["class"] for line in confusion][:2] == ["airplane", "automobile"]
    assert [[*map(int, [*line.values()][1:])] for line in confusion] == rows[method]["confusion"]
    matrix = documents.summary["noise"]["cifar10 n50"]["transition_matrix"]
    assert [
        [*map(float, [*line.values()][1:])] for line in saved(page, "[data-chart=transition]")
    ] == [[100 * share for share in row] for row in matrix]
    results = {line["method"]: line for line in saved(page, "[data-table=results]")[:6]}
    assert len(results) == 6
    first = documents.summary["cells"][:6]
    for row in first:
        line = results[row["method"]]
        assert (line["dataset"], line["labels"], line["network"]) == (
            row["dataset"],
            row["noise"],
            row["backbone"],
        )
        assert [float(line["accuracy (%)"]), float(line["accuracy (%) half_width"])] == both(
            row["estimates"]["accuracy"]
        )


@browser_only
def test_it_prints_every_chart_and_whole_tables_on_a4(page, tmp_path):
    page.evaluate(
        """addEventListener("beforeprint", () => {
          document.title = `folded: ${document.querySelectorAll("details:not([open])").length}`;
        })"""
    )
    path = tmp_path / "report.pdf"
    page.pdf(path=path, prefer_css_page_size=True)
    assert page.title() == "folded: 0"
    assert page.locator("details[open]").count() == 0  # folded again
    # What is printed: nothing is hidden, and no table is wider than its page.
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    millimetres = {"portrait": 210 - 28, "landscape": 297 - 24}
    for side, selectors in {"landscape": "#results, #tables", "portrait": "#claims"}.items():
        page.set_viewport_size({"width": int(millimetres[side] / 25.4 * 96), "height": 900})
        places = page.locator(f":is({selectors}) table").evaluate_all(
            """tables => tables.map(table => [table.dataset.name, table.offsetWidth,
              table.parentElement.clientWidth, getComputedStyle(table.parentElement).overflow])"""
        )
        assert len(places) > 5
        for name, width, room, overflow in places:
            assert 0 < width <= room, name
            assert overflow == "visible", name
    charts = page.evaluate(
        """[...document.querySelectorAll(".plot > svg")].map(chart => chart.getBoundingClientRect())
          .map(box => [box.left, box.right, box.height])"""
    )
    assert len(charts) >= len(CHARTS)
    for left, right, height in charts:
        assert 0 <= left < right <= millimetres["portrait"] / 25.4 * 96
        assert height > 100
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", str(path), "-"]
        text = subprocess.run(command, capture_output=True, text=True).stdout
        for words in ("points of accuracy above base", "mean confidence (%)", "cosine between"):
            assert words in text
        # Each cell has its row.
        assert len(re.findall("cifar10|CIFAR-10", text)) > 24


@browser_only
def test_axe_finds_nothing_serious(tmp_path, browser):
    from axe_playwright_python.sync_playwright import Axe

    plan = SMALL | {"noise": ["n50"], "backbones": ["vgg16"], "methods": ["base", "control", "all"]}
    study = recorded(tmp_path, plan, epochs=2)  # axe looks at each entry of each table
    report = html.write(study.project, study.documents())
    for width, scheme in ((1280, "light"), (390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.goto(report.as_uri())
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.locator("#grid .open").first.dispatch_event("click")
        for shown in ("#runs", "body"):
            if shown == "body":
                page.keyboard.press("Escape")
            found = Axe().run(page, shown, {"resultTypes": ["violations"]}).response
            assert len(found["passes"]) > 5
            serious = [
                (violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
                for violation in found["violations"]
                if violation["impact"] in ("serious", "critical")
            ]
            assert serious == [], (scheme, shown)
        context.close()


@browser_only
def test_on_a_phone_tables_are_cards_and_nothing_is_cut(opened):
    page = opened(390, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in CHARTS[:-1]:
        box = page.locator(f"#{name}-plot > svg").bounding_box()
        assert 250 < box["width"] <= 390, name
    cell = page.locator("#grid td[data-label='accuracy (%)']").first
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"accuracy (%)"'
    assert page.locator("#grid tbody tr").first.bounding_box()["width"] <= 390
    assert cell.bounding_box()["width"] > 250  # a line of its own
    style = "getComputedStyle(document.body)"
    assert page.evaluate(f"{style}.backgroundColor") == "rgb(20, 23, 27)"
    assert page.evaluate(f"{style}.color") == "rgb(230, 233, 237)"
    ink = page.locator("#curves-plot text").first.evaluate("text => getComputedStyle(text).fill")
    assert ink == "rgb(230, 233, 237)"


@browser_only
@pytest.mark.parametrize(("motion", "scrolling"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_motion_is_reduced_on_request(opened, motion, scrolling):
    page = opened(reduced_motion=motion)
    style = "getComputedStyle(document.documentElement).scrollBehavior"
    assert page.evaluate(style) == scrolling


@browser_only
def test_the_first_picture_tells_sizes_apart_and_marks_what_is_claimed(tmp_path, browser):
    """Records at reduced size of one claim; for another the abstract states 3.53."""
    study = Study.make(tmp_path)
    study.plan |= {
        "datasets": ["cifar10_5k"],
        "noise": ["n50"],
        "backbones": ["resnet18", "vgg16"],
        "methods": ["base", "all"],
        "width": 16,
        "training": {"epochs": 60},
    }
    study.write({"base": [0.40, 0.42, 0.41], "all": [0.50, 0.51, 0.52]})
    documents, page = study.documents(), browser.new_page()
    page.goto(html.write(study.project, documents).as_uri())
    said = page.inner_text(".lead")
    assert "Found: +10.0 ± 2.5 points, at reduced size." in said  # +10, +9, +11: t = 4.303
    plot = page.locator("#answer-plot > svg")
    assert plot.locator(".hollow").count() == 2
    assert plot.locator(".claimed").count() == 4  # two claims have no records
    assert "10.0" in page.inner_text("#answer-finding")
    card = page.locator(".card", has_text="50 % label noise").inner_text()
    assert "reproduced at reduced size" in card
    assert "+10.0 ± 2.5 points, where 3.53 is claimed. 2 of 2 comparisons hold" in card
    (claim,) = (claim for claim in documents.claims if claim["claim"] == "label_noise")
    found = [line for line in saved(page, "[data-chart=answer]") if line["effect"]]
    for line, comparison in zip(found, claim["readings"][0]["comparisons"], strict=True):
        effect = comparison["effect"]
        assert float(line["effect"]) == pytest.approx(effect["mean"])
        assert float(line["high"]) == pytest.approx(effect["mean"] + effect["half_width"])
        assert (line["claimed"], line["size"], line["state"]) == ("3.53", "reduced", "holds")
    page.close()


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
    assert page.locator("#cost-plot [role=button]").count() == 2
    assert "Not measured beside base: output." in page.inner_text("#cost-finding")
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
    assert MARKUP in page.locator("#claims h3").first.inner_text()
    assert page.locator("script").count() == 2
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


def test_without_predictions_and_noise_there_is_a_report_too(tmp_path):
    study = Study.make(tmp_path)
    study.plan |= {"methods": ["base"], "seeds": [1]}
    study.write(lambda cell: [0.5])
    text = html.write(study.project, study.documents()).read_text()
    assert '"confusion":[[' not in text


def test_the_crate_names_every_record_with_what_made_it(tmp_path):
    study = recorded(tmp_path, SMALL, cells=12, epochs=1)
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
