"""The tables of a study, and what its figures and text show: built once, from the summary.

Rendered as LaTeX by Jinja and as Markdown by tabulate.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import jinja2

from imcl import methods
from imcl.files import write_text
from imcl.report import BUILD, TEMPLATES, ablation, benches, claims, findings
from imcl.report.render import MISSING, Entry, Table, markdown, number, p_value, protocol

# What the tables of the claims count and measure.
COUNTS = ("holding", "tested", "planned")
NUMBERS = (
    "Holding: comparisons that are significant in the claimed direction (paired by seed, p < 0.05 "
    "with Holm's correction over those tested in this reading) and whose interval does not end "
    "below the claimed figure, of those tested and planned. Effect: fall of the error or rise of "
    "the accuracy, in points or relative in percent, mean of the comparisons by seed with its "
    "95 % t-interval over the n seeds that they share; it tells nothing of what was not tested. Of "
    "a cost, a comparison is a measured ratio to the reference and holds, without a test, if it is "
    "below 1, or of no duplication 1; effect: mean [least, largest] over backbones and machines; "
    "n: the steps whose median counts, 1 where nothing is timed."
)


def write(summary: dict) -> list[Table]:
    """Write every table as tables/NAME.tex and tables/NAME.md, and the .tex files of the text."""
    built = build(summary)
    shown = [table for table in built if table.shown]
    folder = BUILD / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    names = {table.name for table in shown}
    for old in folder.iterdir():  # of another study
        if old.stem not in names:
            old.unlink()
    latex = environment()
    for table in shown:
        template = latex.get_template("table.tex.j2")
        write_text(folder / f"{table.name}.tex", template.render(table=table))
        write_text(folder / f"{table.name}.md", markdown(table))
    by_name = {table.name: table for table in built}
    said = {name: row["value"].text for name, row in by_name["text"].rows().items()}
    lines = drawn(summary)
    undrawn = [method for method in summary["axes"]["methods"] if method not in lines]
    for name in ("numbers", "results", "discussion"):
        text = latex.get_template(f"{name}.tex.j2").render(
            summary=summary,
            tables=shown,
            benches=benches.tables(),
            by_name=by_name,
            header={table.name: table.header for table in built},
            said=said,
            changes=partial(findings.changes, summary),
            combinations=combinations(summary),
            differing=_differ(summary),
            undrawn=undrawn,
        )
        write_text(BUILD / f"{name}.tex", text)
    return shown


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
    latex.filters |= {"verbatim": _Verbatim, "zip": zip}
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


def build(summary: dict) -> list[Table]:
    """All tables of a summary, those of each dataset first."""
    tables = []
    for dataset in summary["axes"]["datasets"]:
        accuracy = _accuracy(summary, dataset)
        tables += [
            accuracy,
            *(
                _difference(summary, dataset, reference)
                for reference in ("base", "control")
                if reference in summary["axes"]["methods"]
            ),
            *([gain] if (gain := findings.table(summary, dataset)).groups else []),
            _oracle(summary, dataset),
            _calibration(summary, dataset),
            _redundancy(summary, dataset),
            _cost(summary, dataset),
            _error(summary, dataset),
            _curves(summary, dataset),
            replace(accuracy, name=f"noise-{dataset}", shown=False),
            _transition(summary, dataset),
        ]
    tables += [_aggregate(summary)] if summary["aggregate"] else []
    tables += [ablation.table(summary["ablation"])] if summary["ablation"] else []
    ledger = [claims_table(summary["claims"]), readings_table(summary["claims"])]
    return [
        *tables,
        *benches.tables(),
        _data(summary),
        _settings(summary),
        *ledger,
        _results(summary),
        _text(summary),
    ]


LEAST_COMBINATIONS = 8  # that a figure of them is worth its place
MOST_LINES = 14  # that a figure can tell apart

TESTS = {"p": "p of the paired t-test", "permutation_p": "p of the paired permutation test"}

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
    said = protocol(len(axes["seeds"]), intervals)
    return Table(f"{name}-{dataset}", f"{dataset}: {caption} {said}.", header, groups)


def _metric(metric: str, scale: float = 1, digits: int = 1) -> Show:
    rule = f"mean over seeds of {metric}{f' × {scale}' if scale != 1 else ''} ± 95 % t-interval"
    return lambda row: number(
        row["estimates"][metric], [row["key"]], rule, scale=scale, digits=digits
    )


def _accuracy(summary: dict, dataset: str) -> Table:
    best: dict[tuple, dict] = {}
    for row in summary["cells"]:
        setting = (row["dataset"], row["noise"], row["backbone"])
        if setting not in best or _mean(row) > _mean(best[setting]):
            best[setting] = row

    def show(row: dict) -> Entry:
        is_best = best[row["dataset"], row["noise"], row["backbone"]] is row
        significant = row.get("difference_to_base", {}).get("significant", False)
        return replace(_metric("accuracy", 100)(row), bold=is_best and significant)

    caption = f"{_split(summary, dataset)} accuracy (%) at the last epoch."
    if summary["comparisons"][dataset]["base"]["tested"]:
        caption += (
            " Bold: the best method, where it differs from base (paired by seed, three seeds or "
            f"more, p < 0.05{_holm(summary, dataset)})."
        )
    return _by_method(summary, dataset, "accuracy", caption, [("", show)])


def _holm(summary: dict, dataset: str, reference: str = "base") -> str:
    """Which comparisons Holm's correction covers: those there are, so far."""
    count = summary["comparisons"][dataset][reference]
    plural = "s" * (count["tested"] != 1)
    comparisons = f"{count['tested']} comparison{plural} with {reference}"
    so_far = f" made so far, of {count['planned']}" if count["made"] < count["planned"] else ""
    return f" with Holm's correction over the {comparisons}{so_far}"


def _split(summary: dict, dataset: str) -> str:
    """Which images the networks were evaluated on: validation where some are held out."""
    return summary["data"][dataset]["evaluation"]


def _mean(row: dict) -> float:
    return row["estimates"]["accuracy"]["mean"]


def _tested(row: dict, test: str, reference: str = "base") -> Entry | None:
    found = row.get(f"difference_to_{reference}")
    if found is None:
        return None
    rule = f"{TESTS[test]}, against {reference}, Holm-corrected over the table"
    return p_value(found[f"{test}_holm"], [row["key"], found["with"]], rule)


def _difference(summary: dict, dataset: str, reference: str) -> Table:
    caption = (
        f"difference to {reference} in points of {_split(summary, dataset)} accuracy, paired by "
        "seed."
    )
    if summary["comparisons"][dataset][reference]["tested"]:
        seeds = len(summary["axes"]["seeds"])
        caption += (
            " p of the paired t-test and of the paired permutation test (perm.), each"
            f"{_holm(summary, dataset, reference)}. Bold: p of the t-test < 0.05, with three seeds "
            f"or more. With n = {seeds} the least p of a permutation test is "
            f"{min(1, 2 / 2**seeds):.2g} before correction."
        )
    if reference == "control":
        caption += " Only methods that see as many augmentations of each image as control does."
    columns = [
        ("", lambda row: findings.difference(row, reference)),
        ("p", lambda row: _tested(row, "p", reference)),
        ("perm.", lambda row: _tested(row, "permutation_p", reference)),
    ]
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
            if base is None or base["machine"] != row["machine"]:
                return None
            rule = f"{key}, over that of base"
            return number(row[key] / base[key], [row["key"], base["key"]], rule, digits=2)

        return show

    caption = (
        "cost of training: parameters that train, and relative to base the time without "
        "evaluation and the peak memory of the process, as they came out beside whatever else the "
        "machine did; none where base was trained on another kind of machine. "
        "Methods with an augment variant pass each image through the network several times."
    )

    def count(row: dict) -> Entry:
        return number(row["training_parameters"], [row["key"]], "training_parameters", digits=0)

    parameters = ("parameters", count)
    columns = [("time", ratio("training_seconds")), ("memory", ratio("peak_memory_bytes"))]
    return _by_method(summary, dataset, "cost", caption, columns, parameters, intervals=False)


def _data(summary: dict) -> Table:
    header = ["dataset", "noise", "training", "validation", "test"]
    header += ["nominal rate", "realised rate", "SHA-256"]
    lines = []
    for name, data in summary["data"].items():
        mine = [row for row in summary["cells"] if row["dataset"] == name]
        sources = [row["key"] for row in mine]
        sizes = [
            number(data[key] or None, sources, f"dataset.{key}", digits=0)
            for key in ("n_train", "n_validation", "n_test")
        ]
        clean = Entry(data["sha256"][:12])
        lines.append([Entry(name), Entry("clean"), *sizes, Entry(MISSING), Entry(MISSING), clean])
        for key, noise in summary["noise"].items():
            dataset, label = key.split(" ")
            if dataset == name:
                noisy = [row["key"] for row in mine if row["noise"] == label]
                shares = [
                    number(noise[k], noisy, f"noise.{k}", scale=100, digits=2, unit=" %")
                    for k in ("nominal_rate", "realised_rate")
                ]
                digest = Entry(noise["sha256"][:12])
                lines.append([Entry(name), Entry(label), *sizes, *shares, digest])
    caption = (
        "Data and labels: images, nominal and realised noise, hash of the data or noisy labels."
    )
    return Table("data", caption, header, [lines])


def _settings(summary: dict) -> Table:
    seeds = ", ".join(map(str, summary["axes"]["seeds"]))
    groups = [[_setting("study", "seeds", seeds), _setting("backbone", "width", summary["width"])]]
    for kind in ("datasets", "noises"):
        for name, config in summary[kind].items():
            groups.append([_setting(name, *item) for item in config.items()])
    groups.append([_setting("training", *item) for item in summary["training"].items()])
    for way, by_noise in summary["ways_by_noise"].items():
        groups.append([_setting(way, *item) for item in _options_by_noise(by_noise)])
    for peer, options in summary["peers"].items():
        groups.append([_setting(peer, *item) for item in options.items()])
    for trial, parts in summary["trials"].items():
        own = [
            (f"{part}.{key}", v) for part, options in parts.items() for key, v in options.items()
        ]
        groups.append([_setting(trial, *item) for item in own])
    caption = "Every setting of the study. All of them are choices of this reproduction."
    return Table("settings", caption, ["part", "setting", "value"], groups)


def _differ(summary: dict) -> bool:
    """Whether a way's options differ with the noise that is shown."""
    for by_noise in summary["ways_by_noise"].values():
        used = [by_noise[noise] for noise in summary["axes"]["noise"] if noise in by_noise]
        if any(options != used[0] for options in used):
            return True
    return False


def _options_by_noise(by_noise: dict[str, dict]) -> Iterator[tuple[str, object]]:
    """A way's options; the noise is named with one that is not the same for all of it."""
    for key in dict.fromkeys(key for options in by_noise.values() for key in options):
        values = {noise: options[key] for noise, options in by_noise.items() if key in options}
        for value in dict.fromkeys(values.values()):
            noises = [noise for noise, other in values.items() if other == value]
            of_all = len(noises) == len(by_noise)
            yield key if of_all else f"{key} ({', '.join(noises)})", value


def _aggregate(summary: dict) -> Table:
    found = {(entry["method"], entry["noise"]): entry for entry in summary["aggregate"]}
    noises = [noise for noise in [*summary["axes"]["noise"], "all"] if noise in _second(found)]
    rule = "interquartile mean of the differences to base by seed, × 100, with bootstrap interval"
    lines = []
    for method in dict.fromkeys(method for method, _ in found):
        line = [Entry(method)]
        for noise in noises:
            entry = found.get((method, noise))
            every = {s for (_, n), e in found.items() if n == noise for s in e["settings"]}
            line.append(
                number(entry, entry["cells"], rule, scale=100, signed=True)
                if entry and set(entry["settings"]) == every
                else Entry(MISSING)
            )
        lines.append(line)
    axes = summary["axes"]
    caption = (
        f"Over all datasets ({', '.join(axes['datasets'])}) and backbones "
        f"({', '.join(axes['backbones'])}) that have records: interquartile mean of the "
        "differences to base in points of accuracy, paired by seed "
        f"(n = {len(axes['seeds'])} a setting)"
    )
    if any(entry["low"] is not None for entry in found.values()):
        caption += (
            ", with its 95 % interval from a bootstrap stratified by setting; where seeds are few "
            "it is narrower than a t-interval"
        )
    caption += ". A method that lacks records of a setting is left out."
    return Table("aggregate", caption, ["method", *noises], [lines], labels=1)


def _second(pairs: dict[tuple, dict]) -> set:
    return {second for _, second in pairs}


def drawn(summary: dict) -> list[str]:
    """The methods that a line each is drawn for: of too many first combinations go, then peers."""
    there = summary["axes"]["methods"]

    def rank(name: str) -> int:
        method = methods.parse(name)
        if name in ("base", "control", "all"):
            return 0
        return 2 if method.peer else 1 if len(method.ways) == 1 else 3

    kept = sorted(there, key=rank)[:MOST_LINES]
    return [method for method in there if method in kept]


def combinations(summary: dict) -> list[str]:
    """The combinations of ways in the order of a figure; none where few of them are studied."""
    there = summary["axes"]["methods"]
    studied = [name for name in methods.combined()[1:] if name in there]
    return studied if "base" in there and len(studied) >= LEAST_COMBINATIONS else []


def claims_table(judged: list[dict]) -> Table:
    """The ledger: a row for each claim of the abstract, with the numbers of one reading of it."""
    lines = []
    for claim in judged:
        readings = claim["readings"]
        told = next((r for r in readings if r["verdict"] != "not tested"), readings[0])
        sources = _claim_sources(readings)
        lines.append(
            [
                Entry(claim["says"]),
                Entry(claim["verdict"], sources=sources, rule="the verdicts of its readings"),
                Entry(claim["size"] or MISSING),
                Entry(_told(told, claim["verdict"])),
                *_evidence(told),
                Entry("; ".join(claim["missing"]) or MISSING),
            ]
        )
    caption = (
        "What the abstract claims, judged from the records of all studies. Reproduced: every "
        "comparison is tested and holds, in each reading that could be tested; partly: some do; "
        "not reproduced: none does; not tested: no comparison has the seeds, width and epochs that "
        "params.yaml asks of evidence. Size: reduced where the networks are narrower than the "
        "published ones or trained on a part of the dataset, as the last column tells. The numbers "
        "are those of one reading, the first that could be tested, with its own verdict where that "
        f"differs. {NUMBERS}"
    )
    header = ["claim", "verdict", "size", "reading", *COUNTS, "effect", "n", "missing"]
    align = "p{38mm}llp{28mm}rrrrrp{58mm}"
    return Table("claims", caption, header, [lines], labels=1, align=align)


def _told(reading: dict, verdict: str) -> str:
    own = f" ({reading['verdict']})" if reading["verdict"] != verdict else ""
    return (claims.describe(reading["reading"]) or MISSING) + own


def readings_table(judged: list[dict]) -> Table:
    """A row for each reading of each claim that leaves something open."""
    groups = [
        [
            [
                Entry(claim["claim"]),
                Entry(claims.describe(reading["reading"]) or MISSING),
                Entry(
                    reading["verdict"], sources=_claim_sources([reading]), rule="of its comparisons"
                ),
                Entry(reading["size"] or MISSING),
                *_evidence(reading),
            ]
            for reading in claim["readings"]
        ]
        for claim in judged
    ]
    caption = f"The claims by reading. {NUMBERS}"
    header = ["claim", "reading", "verdict", "size", *COUNTS, "effect", "n"]
    return Table("readings", caption, header, groups, align="llllrrrrr")


def _evidence(reading: dict) -> list[Entry]:
    """How many comparisons hold, are tested and planned; their effect and its n."""
    sources, effect = _claim_sources([reading]), reading["effect"]
    return [
        *(
            number(reading[f"comparisons_{key}"], sources, f"comparisons {key}", digits=0)
            for key in COUNTS
        ),
        number(effect, sources, "over the comparisons of the reading; see the caption", digits=2),
        number(effect and effect["n"], sources, "n", digits=0),
    ]


def _claim_sources(readings: list[dict]) -> tuple[str, ...]:
    comparisons = (c for reading in readings for c in reading["comparisons"])
    named = (source for c in comparisons for source in c.get("records", []))
    return tuple(dict.fromkeys(named))


def _results(summary: dict) -> Table:
    """What the report's main table shows: a row for each cell."""
    shows: dict[str, Show] = {
        "accuracy (%)": _metric("accuracy", 100),
        "to base": findings.difference,
        "p": lambda row: _tested(row, "p"),
        "oracle (%)": _metric("oracle_accuracy", 100),
        "NLL": _metric("nll", 1, 2),
        "ECE (%)": _metric("ece", 100),
        "channels × 1000": _metric("channel_correlation", 1000),
        "kernels × 1000": _metric("kernel_cosine", 1000),
        "parameters": lambda row: number(
            row["training_parameters"], [row["key"]], "training_parameters", digits=0
        ),
        "seconds": lambda row: number(
            row["training_seconds"], [row["key"]], "training_seconds a seed", digits=0
        ),
        "n": lambda row: number(row["estimates"]["accuracy"]["n"], [row["key"]], "seeds", digits=0),
    }
    lines = [
        [Entry(row[key]) for key in ("dataset", "noise", "backbone", "method")]
        + [show(row) or Entry(MISSING) for show in shows.values()]
        for row in summary["cells"]
    ]
    header = ["dataset", "noise", "backbone", "method", *shows]
    return Table("results", "All cells.", header, [lines], labels=4, shown=False)


def _error(summary: dict, dataset: str) -> Table:
    columns = [("", _metric("error", 100))]
    table = _by_method(summary, dataset, "error", "error (%) at the last epoch.", columns)
    return replace(table, shown=False)


def _curves(summary: dict, dataset: str) -> Table:
    """What the learning curves show: a row for each cell, a column for each evaluated epoch."""
    rows = [row for row in summary["cells"] if row["dataset"] == dataset]
    epochs = sorted({p["epoch"] for row in rows for p in row["history"] if "accuracy" in p})
    rule = "mean over seeds of accuracy at this epoch, × 100, ± 95 % t-interval"
    lines = []
    for row in rows:
        points = {p["epoch"]: p["accuracy"] for p in row["history"] if "accuracy" in p}
        numbers = [number(points.get(e), [row["key"]], rule, scale=100) for e in epochs]
        names = [Entry(row[key]) for key in ("backbone", "method", "noise")]
        lines.append([*names, *numbers])
    header = ["backbone", "method", "noise", *map(str, epochs)]
    caption = f"{dataset}: accuracy (%) by epoch."
    return Table(f"curves-{dataset}", caption, header, [lines], labels=3, shown=False)


def _transition(summary: dict, dataset: str) -> Table:
    """What the transition matrices show: a row for each noise and true class."""
    lines = []
    for noise in summary["axes"]["noise"]:
        matrix = summary["noise"].get(f"{dataset} {noise}", {}).get("transition_matrix", [])
        cells = (r for r in summary["cells"] if (r["dataset"], r["noise"]) == (dataset, noise))
        sources = [row["key"] for row in cells]
        rule = "noise.transition_matrix, × 100"
        for true, shares in enumerate(matrix):
            names = [Entry(noise), Entry(str(true))]
            lines.append([*names, *(number(s, sources, rule, scale=100, digits=0) for s in shares)])
    classes = max((len(line) - 2 for line in lines), default=0)
    caption = f"{dataset}: share (%) of each true class (row) that bears each label (column)."
    header = ["noise", "class", *map(str, range(classes))]
    return Table(f"transition-{dataset}", caption, header, [lines], shown=False)


def _text(summary: dict) -> Table:
    """What the text of the paper says: the name of each value, and the value."""
    axes, training = summary["axes"], summary["training"]
    every = [row["key"] for row in summary["cells"]]
    commits = dict.fromkeys((code["commit"] or "unknown")[:12] for code in summary["code"])
    modified = " (modified)" if any(code["modified"] for code in summary["code"]) else ""

    def distinct(key: str, join: str) -> Entry:
        return Entry(join.join(dict.fromkeys(where[key] for where in summary["environment"])))

    def setting(value: float, rule: str, digits: int = 0) -> Entry:
        return number(value, every, rule, digits=digits)

    said = {
        "Study": Entry(summary["study"]),
        "StudyDigest": Entry(summary["digest"]),
        "StudyCells": setting(len(summary["cells"]), "cells that have a record"),
        "StudyPlanned": setting(summary["planned"], "cells of the study"),
        "StudySeeds": setting(len(axes["seeds"]), "seeds of each cell"),
        "StudyDatasets": Entry(", ".join(axes["datasets"])),
        "StudyNoise": Entry(", ".join(axes["noise"])),
        "StudyBackbones": Entry(" and ".join(axes["backbones"])),
        "StudyWidth": setting(summary["width"], "backbone.width"),
        "StudyEpochs": setting(training["epochs"], "training.epochs"),
        "StudyBatchSize": setting(training["batch_size"], "training.batch_size"),
        "StudyLearningRate": Entry(
            f"{training['learning_rate']:g}",
            False,
            training["learning_rate"],
            "training",
            (*every,),
        ),
        "StudySchedule": Entry(training["schedule"].replace("_", " ")),
        "StudyPrecision": Entry(training["precision"]),
        "StudyCommit": Entry(", ".join(commits) + modified),
        "StudyDevice": distinct("device_name", "; "),
        "StudyTorch": distinct("torch", ", "),
    }
    judged = summary["claims"]
    for name, those in {
        "Claims": judged,
        **{
            f"Claims{verdict.title().replace(' ', '')}": [
                claim for claim in judged if claim["verdict"] == verdict
            ]
            for verdict in claims.VERDICTS
        },
        "ClaimsReduced": [claim for claim in judged if claim["size"] == "reduced"],
    }.items():
        sources = _claim_sources([r for claim in those for r in claim["readings"]])
        said[f"Study{name}"] = number(len(those), sources, "claims of the ledger", digits=0)
    for dataset in axes["datasets"]:
        compared = [
            row
            for row in summary["cells"]
            if row["dataset"] == dataset and "difference_to_base" in row
        ]
        counts = {
            "compared": compared,
            "higher": [r for r in compared if r["difference_to_base"]["mean"] > 0],
            "better": [r for r in compared if _significant(r, 1)],
            "worse": [r for r in compared if _significant(r, -1)],
        }
        for name, rows in counts.items():
            sources = [row["key"] for row in compared]
            rule = f"comparisons with base that are {name}"
            said[f"{name} {dataset}"] = number(len(rows), sources, rule, digits=0)
    lines = [[Entry(name), entry] for name, entry in said.items()]
    return Table("text", "What the text says.", ["name", "value"], [lines], labels=1, shown=False)


def _significant(row: dict, sign: int) -> bool:
    difference = row["difference_to_base"]
    return difference["significant"] and difference["mean"] * sign > 0


def _setting(part: str, key: str, value: object) -> list[Entry]:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return [Entry(part), Entry(key), Entry(text)]
