"""Versions in interface names, and their compatibility."""

from __future__ import annotations

import re

__all__ = ["semver_track", "without_version"]

# Python refuses to parse numbers of thousands of digits.
_NUMBER = r"[0-9]{1,18}"
_versioned = re.compile(
    rf"(?P<name>[^@]+)@(?P<major>{_NUMBER})(?:\.(?P<minor>{_NUMBER})(?:\.(?P<patch>{_NUMBER}))?)?(?:\+.*)?"
).fullmatch


def semver_track(name: str) -> tuple[str, tuple[int, int, int]] | None:
    """Returns the semver track of an interface name, and its version: names on one track are compatible.

    ``a:b/c@0.2.7`` is on ``a:b/c@0.2``, ``a:b/c@1.4.0`` on ``a:b/c@1``; 0.0.x, pre-releases and versions with numbers
    of more than 18 digits are on none. A track's own name, which components may use too, is its lowest version.
    """
    found = _versioned(name)
    if found is None:
        return None
    version = int(found["major"]), int(found["minor"] or 0), int(found["patch"] or 0)
    if version[0]:
        return f"{found['name']}@{version[0]}", version
    if version[1]:
        return f"{found['name']}@0.{version[1]}", version
    return None


def without_version(name: str) -> str:
    return name.partition("@")[0]
