"""Names of imports, exports and labels (specification: Explainer.md, "Import and Export Definitions")."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ExternName", "is_interface_name", "is_label", "parse_extern_name"]

# Linear time: every repetition is possessive, and the next character determines the branch.
_LABEL = (
    r"(?:[a-z][0-9a-z]*+|[A-Z][0-9A-Z]*+)"
    r"(?:-(?=[0-9a-zA-Z])[0-9]*+(?:[a-z][0-9a-z]*+|[A-Z][0-9A-Z]*+)?+)*+"
)
_WORDS = r"[a-z][0-9a-z]*+(?:-[0-9a-z]++)*+"
_NUMBER = r"(?:0|[1-9][0-9]*+)"
_PRERELEASE = rf"(?:{_NUMBER}(?![0-9a-zA-Z-])|[0-9]*+[a-zA-Z-][0-9a-zA-Z-]*+)"
_SEMVER = (
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*+)?+(?:\+[0-9a-zA-Z-]++(?:\.[0-9a-zA-Z-]++)*+)?+"
)
_CANONICAL_VERSION = r"(?:[1-9][0-9]*+|0\.[1-9][0-9]*+|0\.0\.[1-9][0-9]*+|0\.0\.0)"

_label = re.compile(_LABEL).fullmatch
_plain = re.compile(rf"(?:\[(constructor)\]({_LABEL})|\[(method|static)\]({_LABEL})\.({_LABEL}))").fullmatch
_interface = re.compile(rf"{_WORDS}:{_WORDS}/{_LABEL}(?:@(?:{_SEMVER}|{_CANONICAL_VERSION}))?").fullmatch


class ExternName(NamedTuple):
    """``kind`` is ``plain``, ``interface``, ``constructor``, ``method`` or ``static``; the last three have a resource.

    Names in one list must have different ``key`` (specification: "Name Uniqueness").
    """

    kind: str
    resource: str | None
    key: str


def is_label(text: str) -> bool:
    return _label(text) is not None


def is_interface_name(text: str) -> bool:
    return _interface(text) is not None


def parse_extern_name(text: str) -> ExternName | None:
    """Returns the parsed name, or None if the text is not a name."""
    if _label(text):
        return ExternName("plain", None, text.lower())
    if _interface(text):
        return ExternName("interface", None, text.lower())
    annotated = _plain(text)
    if annotated is None:
        return None
    if annotated[1]:
        return ExternName("constructor", annotated[2], text.lower())
    resource, member = annotated[4].lower(), annotated[5].lower()
    return ExternName(annotated[3], annotated[4], resource if resource == member else f"{resource}.{member}")
