"""The seal of a record: a checksum over everything else in it.

It finds damage and edits by hand. It is not a signature: anyone can seal a record again. So
`imcl verify` also checks all that can be recomputed.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TypeVar, cast

Object = TypeVar("Object", bound=Mapping[str, object])


def sealed(value: Object) -> Object:
    """The JSON object with its seal in the key `seal`: the SHA-256 of everything else."""
    return cast(Object, {**value, "seal": _seal(value)})


def is_sealed(value: Mapping[str, object]) -> bool:
    """Whether the object has a seal and was not changed since."""
    return value.get("seal") == _seal(value)


def _seal(value: Mapping[str, object]) -> str:
    content = {key: entry for key, entry in value.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
