"""Tools to specify settings: a strict base class, types with bounds, and validators.

If an ordinary pydantic validator finds a fault, pydantic does not report the faults inside the same
value. `validated` reports both, so that one run shows all that is wrong with params.yaml.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

T = TypeVar("T")


class Options(BaseModel):
    """Settings with names, defaults and bounds; unknown names and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def overridden(self, by: Self) -> Self:
        """These options, but with the values that were given explicitly in `by`."""
        return self.model_copy(update={name: getattr(by, name) for name in by.model_fields_set})


def fault(
    place: tuple[str | int, ...],
    message: str,
    kind: str = "unfit",
    value: object = None,
    context: dict[str, Any] | None = None,
) -> InitErrorDetails:
    """A fault for `validated`.

    Args:
        place: keys and indices that lead to it, from the value that is validated.
        message: what is wrong.
        kind: pydantic's name for the fault, if it has one.
        value: the value found there.
        context: the bounds that the value breaks, as in pydantic's errors.
    """
    custom = PydanticCustomError(kind, message, context)
    return InitErrorDetails(type=custom, loc=place, input=value)


def validated(
    value: object,
    validate: ValidatorFunctionWrapHandler | ModelWrapValidatorHandler[Any],
    faults: list[InitErrorDetails],
) -> Any:
    """The validated value.

    Raises:
        ValidationError: with `faults` and all that `validate` finds, if there is any.
    """
    try:
        result = validate(value)
    except ValidationError as error:
        faults += [
            fault(e["loc"], e["msg"], e["type"], e["input"], e.get("ctx"))
            for e in error.errors(include_url=False)
        ]
    if faults:
        raise ValidationError.from_exception_data("options", faults)
    return result


def _stated(value: object) -> object:
    if value is None:
        raise PydanticCustomError("unfit", "has no value; give one, or leave the key out")
    return value


def _distinct(values: object, validate: ValidatorFunctionWrapHandler) -> Any:
    faults: list[InitErrorDetails] = []
    seen = set()
    for value in values if isinstance(values, list) else ():
        key = repr(value)  # since 1 equals True, and not every value has a hash
        if key in seen and not faults:
            faults = [fault((), "appears twice", "twice", value)]
        seen.add(key)
    return validated(values, validate, faults)


def _filled(options: T) -> T:
    if isinstance(options, BaseModel) and not options.model_fields_set:
        raise PydanticCustomError("too_short", "empty")
    return options


# The bounds are far beyond use, and still within what float32 and a machine can do. A typing error
# is refused at once, not hours later.
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, le=10**9)]
Positive = Annotated[float, Field(ge=1e-9, le=10**9)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Copies = Annotated[int, Field(ge=1, le=64)]  # of a network or a part of it
Width = Annotated[int, Field(ge=2, le=8192)]
MOST_THREADS = 1024  # with far more, torch ends the process
Threads = Annotated[int, Field(ge=1, le=MOST_THREADS)]
BatchSize = Annotated[int, Field(ge=2, le=1_000_000)]
MOST_SEED = 2**32 - 1
PER_GPU = 4  # trainings, if nobody says: one alone leaves a GPU idle between its operations
Device = Literal["auto", "cpu", "cuda"]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Text = Annotated[str, Field(min_length=1)]
NAME, FOREIGN_NAME, COMMIT = "^[a-z][a-z0-9_]*$", "^[A-Za-z0-9_.]+$", "^[0-9a-f]{7,40}$"
# What is wrong with a text that does not match, and the remedy.
MISMATCHES = {
    NAME: "is not a valid name; use lower-case letters, digits and _, and begin with a letter",
    FOREIGN_NAME: "is not a valid name; use letters, digits, _ and .",
    COMMIT: "is not the hash of a commit; `git rev-parse COMMIT` prints it",
}
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=40)]

# A list without an entry that appears twice; options of which at least one is given.
UNIQUE = (WrapValidator(_distinct), Field(json_schema_extra={"uniqueItems": True}))
FILLED = (AfterValidator(_filled), Field(json_schema_extra={"minProperties": 1}))

# An option without a default. It is None if it is left out, but None cannot be given.
Open = Annotated[T | None, BeforeValidator(_stated)]
