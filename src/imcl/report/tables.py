"""The tables of a study: built once, rendered as LaTeX by Jinja and as Markdown by tabulate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import jinja2
from tabulate import tabulate

from imcl.files import read_json, write_text
from imcl.report import BENCHES, BUILD, TEMPLATES

MISSING = "–"


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its text, and whether it is set in bold."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `groups` are blocks of rows, set apart by a rule."""

    name: str
    caption: str
    header: list[str]
    groups: list[list[list[Entry]]] = field(default_factory=list)


def write(summary: dict) -> list[Table]:
    """Write every table as tables/NAME.tex and tables/NAME.md, and results.tex and numbers.tex."""
    tables = build(summary)
    folder = BUILD / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    names = {table.name for table in tables}
    for old in folder.iterdir():  # of another study
        if old.stem not in names:
            old.unlink()
    latex = environment()
    with_matrix = {k.split(" ")[0] for k, n in summary["noise"].items() if "transition_matrix" in n}
    for table in tables:
        template = latex.get_template("table.tex.j2")
        write_text(folder / f"{table.name}.tex", template.render(table=table))
        write_text(folder / f"{table.name}.md", markdown(table))
    for name in ("numbers", "results"):
        text = latex.get_template(f"{name}.tex.j2").render(
            summary=summary, tables=tables, with_matrix=with_matrix
        )
        write_text(BUILD / f"{name}.tex", text)
    return tables


def environment() -> jinja2.Environment:
    """Jinja for LaTeX: <<value>>, <%statement%>, <#comment#>.

    Every text is escaped but through the filter `verbatim`, which is for names of files and labels.
    """
    latex = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        autoescape=False,
    )
    latex.filters["verbatim"] = _Verbatim
    return latex


class _Verbatim(str):
    """A text that LaTeX takes as a name, of a file or label, and does not show."""


def _finalize(value: object) -> object:
    return escape(value) if isinstance(value, str) and not isinstance(value, _Verbatim) else value


_LATEX = {
    "\\": r"\textbackslash{}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def escape(text: str) -> str:
    """A text as LaTeX shows it letter by letter."""
    return "".join(_LATEX.get(character, character) for character in text)


def markdown(table: Table) -> str:
    """The table as Markdown, its caption below."""
    rows = [
        [f"**{entry.text}**" if entry.bold else entry.text for entry in row]
        for group in table.groups
        for row in group
    ]
    grid = tabulate(rows, table.header, tablefmt="github", disable_numparse=True)
    return f"{grid}\n\n{table.caption}\n"


def build(summary: dict) -> list[Table]:
    """All tables of a summary, those of each dataset first."""
    tables = []
    for dataset in summary["axes"]["datasets"]:
        tables += [
            _accuracy(summary, dataset),
            *(
                _difference(summary, dataset, reference)
                for reference in ("base", "control")
                if reference in summary["axes"]["methods"]
            ),
            _oracle(summary, dataset),
            _calibration(summary, dataset),
            _redundancy(summary, dataset),
            _cost(summary, dataset),
        ]
    return [*tables, *_overhead(), _data(summary), _settings(summary)]


def number(estimate: dict, scale: float = 1, digits: int = 1, signed: bool = False) -> str:
    """An estimate as `mean ± half-width`; without an interval where one seed gives none."""
    mean = f"{scale * estimate['mean']:{'+' if signed else ''}.{digits}f}".replace("-", "−")
    if estimate["half_width"] is None:
        return mean
    return f"{mean} ± {scale * estimate['half_width']:.{digits}f}"


Show = Callable[[dict], Entry | None]


def _by_method(
    summary: dict,
    dataset: str,
    name: str,
    caption: str,
    columns: list[tuple[str, Show]],
    leading: tuple[str, Show] | None = None,
    intervals: bool = True,
) -> Table:
    """Rows: backbone and method. Columns: `leading`, then each noise with each of `columns`."""
    axes = summary["axes"]
    rows = {(r["dataset"], r["noise"], r["backbone"], r["method"]): r for r in summary["cells"]}
    header = ["backbone", "method"] + ([leading[0]] if leading else [])
    for noise in axes["noise"]:
        header += [f"{noise} {title}".strip() for title, _ in columns]
    groups = []
    for backbone in axes["backbones"]:
        group = []
        for method in axes["methods"]:
            line = [Entry(backbone), Entry(method)]
            found = [rows.get((dataset, noise, backbone, method)) for noise in axes["noise"]]
            if leading:
                row = next(filter(None, found), None)
                line.append((row and leading[1](row)) or Entry(MISSING))
            for row in found:
                for _, show in columns:
                    line.append((row and show(row)) or Entry(MISSING))
            group.append(line)
        groups.append(group)
    seeds = len(axes["seeds"])
    protocol = f"Mean of n = {seeds} seeds" if seeds > 1 else "One seed"
    protocol += " ± 95 % t-interval" if seeds > 1 and intervals else ""
    return Table(f"{name}-{dataset}", f"{dataset}: {caption} {protocol}.", header, groups)


def _metric(metric: str, scale: float = 1, digits: int = 1) -> Show:
    return lambda row: Entry(number(row["estimates"][metric], scale, digits))


def _accuracy(summary: dict, dataset: str) -> Table:
    best: dict[tuple, dict] = {}
    for row in summary["cells"]:
        setting = (row["dataset"], row["noise"], row["backbone"])
        if setting not in best or _mean(row) > _mean(best[setting]):
            best[setting] = row

    def show(row: dict) -> Entry:
        is_best = best[row["dataset"], row["noise"], row["backbone"]] is row
        significant = row.get("difference_to_base", {}).get("significant", False)
        return Entry(number(row["estimates"]["accuracy"], 100), is_best and significant)

    caption = (
        f"{_split(summary, dataset)} accuracy (%) at the last epoch. Bold: the best method, where "
        "it differs from base (paired by seed, Holm-corrected p < 0.05, three seeds or more)."
    )
    return _by_method(summary, dataset, "accuracy", caption, [("", show)])


def _split(summary: dict, dataset: str) -> str:
    """Which images the networks were evaluated on: validation where some are held out."""
    return summary["data"][dataset]["evaluation"]


def _mean(row: dict) -> float:
    return row["estimates"]["accuracy"]["mean"]


def _difference(summary: dict, dataset: str, reference: str) -> Table:
    key = f"difference_to_{reference}"

    def difference(row: dict) -> Entry | None:
        if key not in row:
            return None
        return Entry(number(row[key], 100, signed=True), row[key]["significant"])

    def p_value(row: dict) -> Entry | None:
        p = row.get(key, {}).get("p_holm")
        return None if p is None else Entry("< 0.001" if p < 0.001 else f"{p:.3f}")

    caption = (
        f"difference to {reference} in points of {_split(summary, dataset)} accuracy, paired by "
        "seed; p from the paired t-test, Holm-corrected over the table. Bold: p < 0.05, "
        "with three seeds or more."
    )
    if reference == "control":
        caption += " Only methods that see as many augmentations of each image as control does."
    columns = [("", difference), ("p", p_value)]
    return _by_method(summary, dataset, f"difference-to-{reference}", caption, columns)


def _oracle(summary: dict, dataset: str) -> Table:
    caption = (
        f"oracle {_split(summary, dataset)} accuracy (%), at the epoch that the evaluated images "
        "themselves would choose. No method can be used this way; it shows what the last epoch "
        "lost."
    )
    columns = [("", _metric("oracle_accuracy", 100))]
    return _by_method(summary, dataset, "oracle", caption, columns)


def _calibration(summary: dict, dataset: str) -> Table:
    caption = "negative log-likelihood (nats) and expected calibration error (15 bins, %)."
    columns = [("NLL", _metric("nll", 1, 2)), ("ECE", _metric("ece", 100))]
    mine = [row for row in summary["cells"] if row["dataset"] == dataset]
    if all("roc_auc" in row["estimates"] for row in mine):
        caption = caption[:-1] + ", area under the ROC curve (%)."
        columns.append(("AUC", _metric("roc_auc", 100)))
    return _by_method(summary, dataset, "calibration", caption, columns)


def _redundancy(summary: dict, dataset: str) -> Table:
    caption = (
        "redundancy: mean squared off-diagonal correlation between channels (on the evaluated "
        "images) and cosine between kernels, both × 1000."
    )
    columns = [
        ("channels", _metric("channel_correlation", 1000)),
        ("kernels", _metric("kernel_cosine", 1000)),
    ]
    return _by_method(summary, dataset, "redundancy", caption, columns)


def _cost(summary: dict, dataset: str) -> Table:
    bases = {
        (row["noise"], row["backbone"]): row
        for row in summary["cells"]
        if row["method"] == "base" and row["dataset"] == dataset
    }

    def ratio(key: str) -> Show:
        def show(row: dict) -> Entry | None:
            base = bases.get((row["noise"], row["backbone"]))
            return Entry(f"{row[key] / base[key]:.2f}") if base else None

        return show

    caption = (
        "cost of training: parameters that train, and relative to base the time without "
        "evaluation and the peak memory of the process, as they came out beside whatever else the "
        "machine did. "
        "Methods with an augment variant pass each image through the network several times."
    )
    parameters = ("parameters", lambda row: Entry(f"{row['training_parameters']:,}"))
    columns = [("time", ratio("training_seconds")), ("memory", ratio("peak_memory_bytes"))]
    return _by_method(summary, dataset, "cost", caption, columns, parameters, intervals=False)


def _overhead() -> Iterator[Table]:
    """A table for each device that `imcl bench overhead` was run on."""
    for path in sorted(BENCHES.glob("overhead-*.json")):
        record = read_json(path, ("settings", "environment", "rows"))
        settings, where = record["settings"], record["environment"]
        caption = (
            f"overhead: a training step of {settings['batch_size']} images of CIFAR's shape, "
            f"backbones of width {settings['width']}, {settings['precision']}, on "
            f"{where['device_name']}, {where['threads']} threads: median of "
            f"{settings['repeats']} interleaved steps. Parameters while training and when served "
            "(millions); multiply-adds, time and peak memory relative to base."
        )
        header = ["backbone", "method", "training", "served", "multiply-adds", "time", "memory"]
        groups: dict[str, list] = {}
        for row in record["rows"]:
            sizes = [row["training_parameters"] / 1e6, row["parameters"] / 1e6]
            ratios = [row[f"{what}_ratio"] for what in ("macs", "time", "memory")]
            numbers = [f"{value:.1f}" for value in sizes] + [f"{value:.2f}" for value in ratios]
            texts = [row["backbone"], row["method"], *numbers]
            groups.setdefault(row["backbone"], []).append([Entry(text) for text in texts])
        yield Table(path.stem, caption, header, list(groups.values()))


def _data(summary: dict) -> Table:
    header = ["dataset", "noise", "training", "validation", "test"]
    header += ["nominal rate", "realised rate", "SHA-256"]
    lines = []
    for name, data in summary["data"].items():
        counts = [data[key] for key in ("n_train", "n_validation", "n_test")]
        sizes = [Entry(f"{count:,}" if count else MISSING) for count in counts]
        clean = data["sha256"][:12]
        lines.append(
            [Entry(name), Entry("clean"), *sizes, Entry(MISSING), Entry(MISSING), Entry(clean)]
        )
        for key, noise in summary["noise"].items():
            dataset, label = key.split(" ")
            if dataset == name:
                rates = [noise["nominal_rate"], noise["realised_rate"]]
                shares = [Entry(f"{100 * rate:.2f} %") for rate in rates]
                digest = Entry(noise["sha256"][:12])
                lines.append([Entry(name), Entry(label), *sizes, *shares, digest])
    caption = (
        "Data and labels: images, nominal and realised noise, hash of the data or noisy labels."
    )
    return Table("data", caption, header, [lines])


def _settings(summary: dict) -> Table:
    groups = [[[Entry("backbone"), Entry("width"), Entry(str(summary["width"]))]]]
    groups.append([_setting("training", *item) for item in summary["training"].items()])
    for way, options in [*summary["ways"].items(), *summary["peers"].items()]:
        groups.append([_setting(way, *item) for item in options.items()])
    caption = "Every setting of the study. All of them are choices of this reproduction."
    return Table("settings", caption, ["part", "setting", "value"], groups)


def _setting(part: str, key: str, value: object) -> list[Entry]:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return [Entry(part), Entry(key), Entry(text)]
