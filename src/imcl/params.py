"""Reads params.yaml and says exactly what is wrong with it.

One check for the command line, Snakemake and DVC: the JSON schema in workflow/schemas, then what
a schema cannot see (names that refer to other entries). Every fault is named by file, key path
and value, all of them at once.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice, product
from pathlib import Path

import jsonschema
import yaml

from imcl import data, methods, models, noise
from imcl.errors import UsageError, shown, unknown

SCHEMA = Path("workflow/schemas/params.schema.yaml")

# What no parameters come near: beyond it a file is refused before it takes time or memory.
LARGEST_BYTES = 200_000
MOST_VALUES = 10_000  # with every anchor written out
LARGEST_NUMBER = 2**63 - 1
MOST_FAULTS = 20  # in a message


def load(path: Path | str = "params.yaml", study: str | None = None) -> dict:
    """Read and check the parameters.

    Args:
        path: the YAML file; the schema lies beside it under workflow/schemas.
        study: a study to choose instead of the file's own `study`.

    Raises:
        UsageError: with one line for each fault.
    """
    path = Path(path)
    params = _read(path)
    schema = _read(path.parent / SCHEMA)
    if study is not None and isinstance(params, dict):
        params = {**params, "study": study}
    try:
        if _size(params, {}) > MOST_VALUES:
            raise UsageError(f"{path}: more than {MOST_VALUES:,} values, counting what anchors say")
        checks = chain(_unfit(params), _schema_faults(params, schema), _name_faults(params))
        faults = [*islice(checks, MOST_FAULTS + 1)]
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply, or an anchor that holds itself") from None
    if faults:
        lines = [f"{path}: {_dotted(where)}{message}" for where, message in faults[:MOST_FAULTS]]
        if len(faults) > MOST_FAULTS:
            lines.append(f"{path}: ... and more")
        # A message may name any key of the file, also one that cannot be shown.
        raise UsageError("\n".join("".join(map(_printable, line)) for line in lines))
    return params


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses what YAML reads as something else than it looks.

    A key that stands twice, a key that is no text, 010 (octal 8) and 1:30 (90). What cannot be
    built is an error with its place.
    """

    def construct_object(self, node, deep=False):
        if isinstance(node, yaml.ScalarNode) and node.tag in (
            "tag:yaml.org,2002:int",
            "tag:yaml.org,2002:float",
        ):
            digits = node.value.lstrip("+-").replace("_", "")
            if ":" in digits or (digits[:1] == "0" and digits[1:].isdigit()):
                raise yaml.MarkedYAMLError(
                    problem=f"YAML does not read {shown(node.value)} as the number that it looks "
                    "like; write it without a leading 0 or a colon",
                    problem_mark=node.start_mark,
                )
        try:
            built = super().construct_object(node, deep)
            if isinstance(built, int) and abs(built) > LARGEST_NUMBER:
                raise OverflowError(f"a number larger than {LARGEST_NUMBER}")
            return built
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise yaml.MarkedYAMLError(
                problem=f"a value that YAML cannot build: {error}", problem_mark=node.start_mark
            ) from None

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the key {shown(key)} is not a text; put it in quotes",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {shown(key)} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_BYTES + 1)
        if len(text) > LARGEST_BYTES:
            raise UsageError(f"{path}: larger than {LARGEST_BYTES:,} bytes, so no parameters")
        return yaml.load(text.decode("utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such file; run this in the project's folder, or name it with --params"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UsageError(f"{path}: {line}{problem}") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None


def _dotted(where: tuple) -> str:
    """('studies', 'quick', 'methods', 2) as 'studies.quick.methods[2]: '."""
    text = ""
    for key in where:
        key = key if isinstance(key, int) or key.isprintable() else shown(key)
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return f"{text.lstrip('.')}: " if text else ""


def _size(node: object, seen: dict[int, int]) -> int:
    """How many values a node holds; one that anchors repeat is counted each time, looked at once.

    Args:
        node: of the parameters.
        seen: the counts so far, by the nodes' ids.
    """
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if id(node) not in seen:
        seen[id(node)] = 1 + sum(_size(child, seen) for child in children)
    return seen[id(node)]


def _unfit(node: object, where: tuple = ()) -> Iterator[tuple[tuple, str]]:
    """Values that neither a file's name, nor a message, nor JSON could hold."""
    if isinstance(node, dict):
        for key, value in node.items():
            if _unprintable(key):
                yield where, f"the key {shown(key)} holds a character that cannot be shown"
            else:
                yield from _unfit(value, (*where, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _unfit(value, (*where, index))
    elif isinstance(node, str) and _unprintable(node):
        yield where, f"{shown(node)} holds a character that cannot be shown"
    elif isinstance(node, float) and not math.isfinite(node):
        yield where, f"{node} is not a finite number"


def _printable(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def _unprintable(text: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _is_whole(checker, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# JSON Schema takes 5.0 for an integer; Python does not take it for a count.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole),
)


def _schema_faults(params: object, schema: dict) -> Iterator[tuple[tuple, str]]:
    validator = _Validator(schema)
    errors = validator.iter_errors(params)
    for error in sorted(errors, key=lambda e: [str(key) for key in e.absolute_path]):
        where, value, expected = tuple(error.absolute_path), error.instance, error.validator_value
        match error.validator:
            case "additionalProperties":
                known = error.schema["properties"]
                for key in value:
                    if key not in known:
                        yield (*where, key), unknown("key", key, known)
            case "required":
                missing = [key for key in expected if key not in value]
                if error.message.startswith(repr(missing[0])):
                    yield where, f"missing: {', '.join(missing)}"
            case "dependentRequired":
                yield where, f"{error.message}; give both or neither"
            case "enum":
                yield where, unknown("value", value, [str(e) for e in expected])
            case "type":
                yield where, _type_fault(value, expected)
            case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
                bound = {
                    "minimum": "at least",
                    "exclusiveMinimum": "more than",
                    "maximum": "at most",
                    "exclusiveMaximum": "less than",
                }[error.validator]
                yield where, f"{value} is out of range; it must be {bound} {expected}"
            case "minItems" | "minProperties":
                yield where, f"{value} is empty; give at least one"
            case "maxLength":
                yield where, f"{shown(value)} is longer than {expected} letters"
            case "uniqueItems":
                twice = next(v for i, v in enumerate(value) if v in value[:i])
                yield where, f"{shown(twice)} stands twice"
            case "pattern":
                yield (
                    where,
                    f"{shown(value)} is no name; "
                    "use lower-case letters, digits and _, a letter first",
                )
            case _:
                yield where, error.message


def _type_fault(value: object, expected: str) -> str:
    names = {
        "object": "a mapping",
        "array": "a list",
        "string": "a text",
        "number": "a number",
        "integer": "a whole number",
        "boolean": "true or false",
    }
    fault = f"{shown(value)} is not {names[expected]}"
    if expected == "string" and isinstance(value, bool):
        fault += "; YAML takes yes, no, on and off for true and false: put the word in quotes"
    if expected in ("number", "integer") and isinstance(value, str):
        with suppress(ValueError, OverflowError):
            number = int(float(value)) if expected == "integer" else float(value)
            if math.isfinite(number):
                fault += f"; write {number!r} without quotes (YAML wants the point in 1.0e-3)"
    return fault


def _name_faults(params: object) -> Iterator[tuple[tuple, str]]:
    """Names that refer to nothing; what the schema faults anyway is passed over."""
    section = {
        key: _mappings(params.get(key) if isinstance(params, dict) else None)
        for key in ("studies", "datasets", "noise", "trials")
    }
    if isinstance(params, dict) and section["studies"]:
        yield from _unknown(("study",), params.get("study"), "study", section["studies"])
    for name, entry in section["datasets"].items():
        where = ("datasets", name, "source")
        yield from _unknown(where, entry.get("source"), "source", data.SOURCES)
    for name, entry in section["noise"].items():
        if name == "clean":
            yield ("noise", name), "'clean' always means the true labels; choose another name"
        where = ("noise", name, "kind")
        yield from _unknown(where, entry.get("kind"), "kind of noise", noise.KINDS)
    for name in section["trials"]:
        if methods.fault(name) is None:
            yield ("trials", name), f"{name!r} is a method already; choose another name"
    yield from _calibration_faults(params, section)
    known = {
        "datasets": ("dataset", list(section["datasets"])),
        "noise": ("noise", ["clean", *section["noise"]]),
        "backbones": ("backbone", list(models.BACKBONES)),
    }
    for study, entry in section["studies"].items():
        for key, (what, names) in known.items():
            for index, name in enumerate(_list(entry.get(key))):
                yield from _unknown(("studies", study, key, index), name, what, names)
        for index, name in enumerate(_list(entry.get("methods"))):
            if isinstance(name, str) and name not in section["trials"]:
                fault = methods.fault(name, section["trials"])
                if fault:
                    yield ("studies", study, "methods", index), fault
        noises = [name for name in _list(entry.get("noise")) if isinstance(name, str)]
        if noises and isinstance(entry.get("ways"), dict):
            for name in entry["ways"]:
                where = ("studies", study, "ways", name)
                yield from _unknown(where, name, "noise of the study", noises)
        yield from _warmup_fault(params.get("training"), study, entry.get("training", {}))
        yield from _anchor_faults(study, entry)
    if isinstance(params, dict):
        yield from _claim_faults(params.get("claims"), known)


def _calibration_faults(params: object, section: dict) -> Iterator[tuple[tuple, str]]:
    """Rungs that are no study on held-out images, and choices that no rung tries."""
    calibration = params.get("calibration") if isinstance(params, dict) else None
    if not isinstance(calibration, dict):
        return
    tried: set[tuple[str, str]] = set()
    for index, name in enumerate(_list(calibration.get("rungs"))):
        if not isinstance(name, str):
            continue
        where = ("calibration", "rungs", index)
        yield from _unknown(where, name, "study", section["studies"])
        study = section["studies"].get(name, {})
        for axes in product(_list(study.get("methods")), _list(study.get("noise"))):
            if all(isinstance(name, str) for name in axes):
                tried.add(axes)
        for dataset in _list(study.get("datasets")):
            known = section["datasets"].get(dataset) if isinstance(dataset, str) else None
            if known is not None and "validation_share" not in known:
                yield where, f"{name!r} is evaluated on the test images of {dataset}: hold some out"
    chosen = calibration.get("chosen")
    for part, entries in chosen.items() if isinstance(chosen, dict) else ():
        for index, entry in enumerate(_list(entries)):
            where = ("calibration", "chosen", part, index, "method")
            method = entry.get("method") if isinstance(entry, dict) else None
            yield from _unknown(where, method, "trial", section["trials"])
            if isinstance(method, str) and method in section["trials"]:
                if part not in section["trials"][method]:
                    yield where, f"trial {method!r} says nothing of {part}"
                elif isinstance(entry.get("noise"), str) and (method, entry["noise"]) not in tried:
                    yield where, f"trial {method!r} is in no rung with {entry['noise']} labels"


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


# What a claim about errors needs, and one about costs.
_CLAIM = {True: ("measure", "methods", "datasets", "noise"), False: ("measure", "methods")}


def _claim_faults(section: object, known: dict) -> Iterator[tuple[tuple, str]]:
    """Claims on what does not exist; a method of a cost is one of the bench's, and free."""
    ledger = _mappings(section.get("ledger") if isinstance(section, dict) else None)
    for claim, entry in ledger.items():
        where = ("claims", "ledger", claim)
        open_to = entry.get("readings")
        stated = {**entry, **(open_to if isinstance(open_to, dict) else {})}
        about_errors = stated.get("measure") in ("error", "accuracy")
        missing = [key for key in _CLAIM[about_errors] if key not in stated]
        if missing:
            yield where, f"missing: {', '.join(missing)}, here or under readings"
        for place, part in ((where, entry), ((*where, "readings"), open_to)):
            for key, chosen in part.items() if isinstance(part, dict) else []:
                for index, name in enumerate(_list(chosen)):
                    if key in known:
                        what, names = known[key]
                        yield from _unknown((*place, key, index), name, what, names)
                    elif key in ("methods", "against") and about_errors:
                        fault = isinstance(name, str) and methods.fault(name)
                        if fault:
                            yield (*place, key, index), fault


def _mappings(section: object) -> dict[str, dict]:
    """The entries of a section that are mappings, as its schema wants."""
    entries = section.items() if isinstance(section, dict) else []
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _unknown(where: tuple, value: object, what: str, known: Iterable[str]) -> Iterator:
    if isinstance(value, str) and value not in known:
        yield where, unknown(what, value, known)


def _anchor_faults(study: str, entry: dict) -> Iterator[tuple[tuple, str]]:
    """Anchors that are no cells of their study."""
    axes = [entry.get(key) for key in ("datasets", "noise", "backbones", "methods")]
    anchors = entry.get("anchors")
    if not isinstance(anchors, dict) or not all(isinstance(axis, list) for axis in axes):
        return
    for name in anchors:
        parts = name.split("-") if isinstance(name, str) else []
        if len(parts) != len(axes) or not all(map(list.__contains__, axes, parts)):
            yield (
                ("studies", study, "anchors"),
                f"{shown(name)} is no cell of the study, as DATASET-NOISE-BACKBONE-METHOD",
            )


def _warmup_fault(common: object, study: str, own: object) -> Iterator[tuple[tuple, str]]:
    if not isinstance(common, dict) or not isinstance(own, dict):
        return
    training = {**common, **own}
    warmup, epochs = training.get("warmup_epochs"), training.get("epochs")
    if _is_whole(None, warmup) and _is_whole(None, epochs) and warmup >= epochs:
        yield (
            ("studies", study, "training"),
            f"warmup_epochs {warmup} leaves nothing of the {epochs} epochs",
        )
