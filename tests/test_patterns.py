"""Every regular expression of the package takes time in proportion to its input, which others may choose."""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wasi_http

PACKAGE = Path(wasi_http.__file__).parent

# What matches the beginning of some expression, what some repetition takes again and again, and what nothing takes.
PREFIXES = [
    "",
    "a",
    "1",
    "a:b/",
    "a:b/c@1.2.3-",
    "a:b/c@1.2.3+",
    "[method]a.",
    "1;a=",
    '1;a="',
    "HTTP/1.1 200 ",
    "[",
    "/",
]
PREFIXES += ["a://", "sslv3 ", "(at offset 0x", "Invalid input WebAssembly code at offset ", "--> ", "*.", "a\n", "a["]
PUMPS = [
    "a",
    "1",
    "-",
    "a-",
    "-1",
    "-1A",
    "A1-",
    ".",
    "1.",
    "0a.",
    ":",
    "a:",
    "::",
    " ",
    "\t ",
    ";a",
    "; a=b ",
    "%41",
    "=a",
]
PUMPS += ['"', "\\a", "\r\n", "\n", "a b ", "@a", "/a", "[", "sslv3 ", "--> ", ":1", "at offset 1", "ä"]
SUFFIX = "\0!"


Match = Callable[[Any], object]


def matches() -> Iterator[tuple[str, Match]]:
    """What is made of expressions at the level of modules: a method, or an expression whose methods are called."""
    for found in pkgutil.walk_packages(wasi_http.__path__, "wasi_http."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        source = PACKAGE.joinpath(*found.name.split(".")[1:])
        text = (source / "__init__.py" if source.is_dir() else source.with_suffix(".py")).read_text()
        for name, item in vars(module).items():
            if isinstance(getattr(item, "__self__", None), re.Pattern):
                yield f"{found.name}.{name}", item
            elif isinstance(item, re.Pattern):
                for method in set(re.findall(rf"\b{name}\.(\w+)\(", text)):
                    replacement = (item.pattern[:0],) if method == "sub" else ()
                    match = functools.partial(getattr(re.Pattern, method), item, *replacement)
                    yield f"{found.name}.{name}.{method}", match


def slowest(match: Match, kind: type[str] | type[bytes], repetitions: int) -> tuple[float, str]:
    """The longest that it takes for an input of that many repetitions, and for which."""
    worst = (0.0, "")
    for prefix, pump in itertools.product(PREFIXES, PUMPS):
        text = prefix + pump * repetitions + SUFFIX
        given = text.encode() if kind is bytes else text
        started = time.process_time()
        match(given)
        worst = max(worst, (time.process_time() - started, prefix + pump))
    return worst


FOUND = dict(matches())


def test_there_are_many() -> None:
    assert len(FOUND) > 25


@pytest.mark.parametrize("name", FOUND)
def test_time_is_linear(name: str) -> None:
    match = FOUND[name]
    pattern = match.args[0] if isinstance(match, functools.partial) else getattr(match, "__self__", None)
    assert isinstance(pattern, re.Pattern)
    # First those from which exponential ones come back.
    for repetitions, seconds in ((22, 0.1), (4000, 0.25)):
        took, text = slowest(match, type(pattern.pattern), repetitions)
        assert took < seconds, f"{text!r}, {repetitions} times"
