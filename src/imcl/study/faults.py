"""Says what is wrong with input: for each fault its place, its value and a remedy."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from imcl.errors import UsageError, shown, unknown
from imcl.study.options import BASELINES, WAYS, Baseline, Way
from imcl.study.spec import MISMATCHES, Options

Place = tuple[str | int, ...]
Spec = TypeVar("Spec", bound=Options)


class Fault(NamedTuple):
    """A fault and the keys and indices that lead to it."""

    place: Place
    message: str

    def __str__(self) -> str:
        """As in 'studies.quick.methods[2]: unknown method'."""
        path = ""
        for key in self.place:
            if isinstance(key, int):
                path += f"[{key}]"
            else:
                path += f".{key if key.isprintable() else shown(key)}"
        return f"{path.lstrip('.')}: {self.message}" if path else self.message


BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
TYPES = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "string_type": "a text",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
}


def check(spec: type[Spec], value: object) -> Spec | list[Fault]:
    """The value as typed options, or everything that is wrong with it, ordered by place."""
    try:
        return spec.model_validate(value)
    except ValidationError as error:
        found = _faults(spec, error.errors(include_url=False))
        return sorted(found, key=lambda fault: [str(key) for key in fault.place])


def way(name: str, options: Mapping[str, Any] | Way) -> Way:
    """A way's options, for users of the library.

    Raises:
        UsageError: the way or an option is unknown, or a value is out of bounds.
    """
    return _named("way", WAYS, name, options)


def baseline(name: str, options: Mapping[str, Any] | Baseline) -> Baseline:
    """A baseline's options; errors as for `way`."""
    return _named("baseline", BASELINES, name, options)


def _named(what: str, known: Mapping[str, type[Spec]], name: str, options: object) -> Spec:
    if name not in known:
        raise UsageError(unknown(what, name, known))
    found = check(known[name], options)
    if isinstance(found, list):
        raise UsageError("\n".join(str(Fault((name, *at), message)) for at, message in found))
    return found


def _faults(spec: type[Options], errors: Sequence[ErrorDetails]) -> Iterator[Fault]:
    missing: dict[Place, list[str]] = {}
    for error in errors:
        if error["type"] == "missing":
            *parents, key = error["loc"]
            missing.setdefault(tuple(parents), []).append(str(key))
        else:
            yield _fault(spec, error)
    for place, names in missing.items():
        yield Fault(place, f"missing: {', '.join(names)}")


def _fault(spec: type[Options], error: ErrorDetails) -> Fault:
    place, value, context = error["loc"], error["input"], error.get("ctx", {})
    if place[-1:] == ("[key]",):  # pydantic's mark for a key; report the mapping itself
        place = place[:-2]
    match error["type"]:
        case "extra_forbidden":
            known = getattr(_at(spec, place[:-1]), "model_fields", ())
            message = unknown("key", place[-1], known)
        case "literal_error":
            message = unknown("value", value, map(str, get_args(_at(spec, place))))
        case kind if kind in BOUNDS:
            bound, key = BOUNDS[kind]
            limit = context[key]
            limit = f"{limit:g}" if isinstance(limit, float) else limit  # 1 rather than 1.0
            message = f"{value} is out of range; it must be {bound} {limit}"
        case "finite_number":
            message = f"{value} is not a finite number"
        case kind if kind in TYPES:
            message = _wrong_type(value, kind)
        case "string_too_short":
            message = "is empty; write some text"
        case "too_short" if not value:
            message = f"{value} is empty; give at least one"
        case "too_short":
            message = f"{shown(value)} has {len(value)} entries; give {context['min_length']}"
        case "too_long":
            message = f"{shown(value)} has {len(value)} entries; give {context['max_length']}"
        case "string_too_long":
            message = f"{shown(value)} is longer than {context['max_length']} letters"
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            message = f"{shown(value)} {MISMATCHES.get(pattern, f'does not match {pattern}')}"
        case "twice":
            message = f"{shown(value)} appears twice"
        case _:
            message = error["msg"]
    return Fault(place, message)


def _at(spec: Any, place: Place) -> Any:
    """The type that a specification has at a place."""
    for key in place:
        spec = _plain(spec)
        if isinstance(spec, type) and issubclass(spec, BaseModel):
            spec = spec.model_fields[str(key)].annotation
        else:  # the values of a mapping, or the items of a list
            spec = get_args(spec)[-1]
    return _plain(spec)


def _plain(spec: Any) -> Any:
    """A type without its bounds and without None."""
    while get_origin(spec) in (Annotated, Union, UnionType):
        spec = next(part for part in get_args(spec) if part is not NoneType)
    return spec


def _wrong_type(value: object, kind: str) -> str:
    fault = f"{shown(value)} is not {TYPES[kind]}"
    if kind == "string_type" and isinstance(value, bool):
        fault += "; YAML takes yes, no, on and off as true or false: put the word in quotes"
    if kind in ("float_type", "int_type") and isinstance(value, str):
        with suppress(ValueError, OverflowError):
            number = int(float(value)) if kind == "int_type" else float(value)
            if math.isfinite(number):
                fault += (
                    f"; write {number!r} without quotes (YAML takes 1e-3 as text; write 1.0e-3)"
                )
    return fault
