"""Reads params.yaml and says exactly what is wrong with it.

Types and bounds are checked first, then names that refer to other sections. All faults are reported
at once, each with file, key path and value.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import yaml

from imcl.errors import UsageError, is_plain, printable, shown
from imcl.files import at_once
from imcl.study import grid, references
from imcl.study.faults import Fault, Place, check
from imcl.study.settings import Settings

# Real files are far below these limits. A larger one is refused before it costs time or memory.
LARGEST_BYTES = 200_000
MOST_VALUES = 20_000  # keys and values, with every anchor expanded
VALUE_LETTERS = 100  # a longer text counts as several values
DEEPEST = 20  # mappings and lists inside each other
LARGEST_NUMBER = 2**63 - 1
MOST_FAULTS = 20  # in a message


def load(path: Path, study: str | None = None) -> Settings:
    """Read and check the parameters.

    Args:
        path: the YAML file.
        study: a study to choose instead of the file's own `study`.

    Raises:
        UsageError: with one line for each fault.
    """
    raw = _read(path)
    if study is not None and isinstance(raw, dict):
        raw = {**raw, "study": study}
    return checked(raw, path)


def checked(raw: object, path: Path) -> Settings:
    """Typed settings from the values that YAML gives; messages name `path`.

    Raises:
        UsageError: with one line for each fault.
    """
    try:
        settings = check(Settings, raw)
        of_types = settings if isinstance(settings, list) else []
        found = [*islice(chain(_unfit(raw), of_types, references.faults(raw)), MOST_FAULTS + 1)]
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None
    if not found and not isinstance(settings, list):
        found = [*islice(_contradictions(settings), MOST_FAULTS + 1)]
    if found or isinstance(settings, list):
        lines = [f"{path}: {fault}" for fault in found[:MOST_FAULTS]]
        if len(found) > MOST_FAULTS:
            lines.append(f"{path}: ... and more")
        # A message may name any key of the file, even one that cannot be printed.
        raise UsageError("\n".join(printable(line) for line in lines))
    return settings


def _contradictions(settings: Settings) -> Iterator[Fault]:
    for name, study in settings.studies.items():
        for message in grid.contradictions(settings, name) if study.blocks else ():
            yield Fault(("studies", name), message)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses what is easily misread.

    It refuses 010 (octal 8), 1:30 (90), a key that appears twice and a key that is not a text. If
    YAML cannot read a value, the error gives the line and column.

    It counts keys and values while it reads, before anything is built from them. An alias counts
    as all that its anchor holds, since `<<: [*a, *a]` copies it twice: nine lines of nine could
    fill the memory.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self._count = self._depth = 0
        self._sizes: dict[int, int] = {}  # of the finished nodes, by their ids

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event, before = self.peek_event(), self._count
        self._count += 1
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(event, "nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _refused(event, f"the anchor {shown(event.anchor)} contains itself")
            self._count = before + self._sizes[id(node)]
        elif isinstance(event, yaml.ScalarEvent):
            self._count += len(event.value) // VALUE_LETTERS
        if self._count > MOST_VALUES:
            raise _refused(event, f"more than {MOST_VALUES:,} keys and values, anchors expanded")
        self._sizes[id(node)] = self._count - before
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag in (
            "tag:yaml.org,2002:int",
            "tag:yaml.org,2002:float",
        ):
            digits = node.value.replace("_", "").lstrip("+-")
            if not digits:  # as in `!!int ''`
                raise _refused(node, f"{shown(node.value)} is not a number")
            if ":" in digits or (digits[:1] == "0" and digits[1:].isdigit()):
                problem = f"YAML may read {shown(node.value)} as a different number; "
                raise _refused(node, f"{problem}write it without a leading 0 or a colon")
        try:
            built = super().construct_object(node, deep)
            if isinstance(built, int) and abs(built) > LARGEST_NUMBER:
                raise OverflowError(f"a number larger than {LARGEST_NUMBER}")
            return built
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise _refused(node, f"YAML cannot read this value: {error}") from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value if node.id == "mapping" else ():  # `!!map [a]` is none
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, str):
                problem = f"the key {shown(key)} is not a text; put it in quotes"
            elif key in seen:
                problem = f"the key {shown(key)} appears twice; leave one out"
            if problem:
                raise _refused(key_node, problem)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refused(at: yaml.Event | yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)  # type: ignore[arg-type]


def _read(path: Path) -> object:
    try:
        with open(path, "rb", opener=at_once) as file:
            text = file.read(LARGEST_BYTES + 1)
        if len(text) > LARGEST_BYTES:
            raise UsageError(f"{path}: larger than {LARGEST_BYTES:,} bytes; is it the right file?")
        return yaml.load(text.decode("utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such file; run this in the project's folder, or name that folder with "
            "--project"
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


def _unfit(node: object, place: Place = ()) -> Iterator[Fault]:
    """Texts with control characters, which cannot be part of a message or a file's name."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not is_plain(key):
                yield Fault(place, f"the key {shown(key)} contains a control character")
            else:
                yield from _unfit(value, (*place, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _unfit(value, (*place, index))
    elif isinstance(node, str) and not is_plain(node):
        yield Fault(place, f"{shown(node)} contains a control character")
