"""Checks settings: values have the types that their dataclass declares, and numbers are in range."""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["LARGEST", "LONGEST", "check"]

#: The largest whole number: that of signed 64 bits.
LARGEST: Final = (1 << 63) - 1

#: The longest time, in seconds: a year, which amounts to for ever. Timers overflow beyond 64 bits of nanoseconds, and
#: sums in the loop's clock, a float, must not lose the seconds.
LONGEST: Final = 365 * 86400.0

# The most characters of a wrong value in an error.
_SHOWN: Final = 100


def check(settings: DataclassInstance, positive: tuple[str, ...] = (), longest: float = LONGEST) -> None:
    """Raises TypeError for a value of another type than declared, and ValueError for a number out of range.

    Integers must be 0 to `LARGEST`, or at least 1 for the fields in ``positive``; floats are times of 0 to ``longest``
    seconds. Call it in ``__post_init__``.
    """
    owner = type(settings)
    for field, hint in _fields(owner):
        value = getattr(settings, field.name)
        name = f"{owner.__name__}.{field.name}"
        if not _is(value, hint):
            example = "" if value is field.default or field.default in _NOTHING else f", as in {field.default!r}"
            raise TypeError(f"{name} must be {_wanted(field.type)}{example}, not {_shown(value)}")
        if isinstance(value, bool):
            continue
        if isinstance(value, float) or (isinstance(value, int) and float in (hint, *get_args(hint))):
            if not 0 <= value <= longest:
                most = f" and at most {longest:.0f} (a year)" if value > longest else ""
                raise ValueError(f"{name} must be at least 0 seconds{most}, not {_shown(value)}")
        elif isinstance(value, int):
            least = 1 if field.name in positive else 0
            if not least <= value <= LARGEST:
                most = " and less than 2**63" if value > LARGEST else ""
                raise ValueError(f"{name} must be at least {least}{most}, not {_shown(value)}")


_NOTHING: Final = (None, dataclasses.MISSING, "", b"", ())


@cache
def _fields(owner: type[DataclassInstance]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(owner)
    return [(field, hints[field.name]) for field in dataclasses.fields(owner)]


def _is(value: object, hint: Any) -> bool:
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return any(_is(value, choice) for choice in get_args(hint))
    if origin in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if origin is float else origin)


def _wanted(annotation: Any) -> str:
    return str(annotation).replace(" | ", " or ").replace("float", "a number")


def _shown(value: object) -> str:
    """Returns a value as text for a message: classes by name, long values cut."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an int of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
