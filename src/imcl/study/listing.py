"""The settings of `imcl settings`: every option with its value, default, bounds and meaning."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from typing_extensions import TypedDict

from imcl import terminal
from imcl.study.options import BASELINES, WAYS, Only
from imcl.study.settings import Running, Settings, Training, Ways
from imcl.study.spec import Options


class SettingRow(TypedDict):
    """An option of params.yaml.

    Attributes:
        section: where it can be set, such as `ways.output`.
        setting: its name.
        value: what the chosen study uses.
        default: what is used if no section sets it.
        bounds: the values that it may have.
        help: what it means.
    """

    section: str
    setting: str
    value: Any
    default: Any
    bounds: str
    help: str


def rows(settings: Settings) -> list[SettingRow]:
    """The options of the training, the ways, the baselines and the run, for the chosen study.

    What holds for one noise or one block only has separate rows.
    """
    study = settings.chosen_study
    common = settings.training.overridden(study.training)
    found = [*_rows("training", Training, common)]
    for name, way in WAYS.items():
        found += _rows(f"ways.{name}", way, settings.way(name))
    place = f"studies.{settings.study}"
    found += _by_noise(place, study.ways)
    for index, block in enumerate(study.blocks):
        own = f"{place}.blocks[{index}]"
        found += _stated(f"{own}.training", Training, block.training)
        found += _by_noise(own, block.ways)
    for name, baseline in BASELINES.items():
        found += _rows(f"baselines.{name}", baseline, settings.baseline(name))
    return [*found, *_rows("run", Running, settings.run)]


def _by_noise(place: str, overrides: Mapping[str, Ways]) -> Iterator[SettingRow]:
    """The options of ways that are set for one noise."""
    for noise, ways in overrides.items():
        for name, options in ways.given().items():
            yield from _stated(f"{place}.ways.{noise}.{name}", WAYS[name], options)


def _stated(section: str, spec: type[Options], options: Options) -> Iterator[SettingRow]:
    """The options that are set, without the defaults."""
    stated = options.model_fields_set
    return (row for row in _rows(section, spec, options) if row["setting"] in stated)


def show(rows: list[SettingRow]) -> None:
    """Print the rows as a table; with fewer columns where the width of lines is limited."""
    from rich.text import Text

    changed = [row["value"] != row["default"] for row in rows]
    if terminal.width(sys.stdout) is None:
        texts = [[_text(value) for value in row.values()] for row in rows]
        terminal.table([*SettingRow.__annotations__], texts)
    else:
        narrow = []
        for row, differs in zip(rows, changed, strict=True):
            default = f", default {_text(row['default'])}" if differs else ""
            told = [
                f"{row['section']}.{row['setting']}",
                _text(row["value"]),
                f"{row['help']} ({row['bounds']}{default})",
            ]
            narrow.append([Text(each, "yellow" * differs) for each in told])
        terminal.table(["setting", "value", "meaning"], narrow, whole=["setting"])
    print(f"{len(rows)} settings, {sum(changed)} of them changed by params.yaml")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _rows(section: str, spec: type[Options], options: Options) -> Iterator[SettingRow]:
    schemas = spec.model_json_schema()["properties"]
    for name, field in spec.model_fields.items():
        only = [m for m in field.metadata if isinstance(m, Only)]
        note = "".join(f" (variant {' or '.join(m.variants)} only)" for m in only)
        yield {
            "section": section,
            "setting": name,
            "value": getattr(options, name),
            "default": field.default,
            "bounds": bounds(schemas[name]),
            "help": f"{field.description or ''}{note}",
        }


SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def bounds(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    match schema:
        case {"enum": values}:
            return ", ".join(values)
        case {"const": value}:
            return str(value)
        case {"type": "string"}:
            return "text"
        case {"type": "boolean"}:
            return "true, false"
        case {"type": "array", "items": items, "minItems": count}:
            return f"list of {count}, each a {bounds(items)}"
    kind = "whole number" if schema["type"] == "integer" else "number"
    limits = ", ".join(f"{sign} {schema[key]}" for key, sign in SIGNS.items() if key in schema)
    return f"{kind} {limits}"
