"""What the tests of the component floor share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.component.abi_world import World
from wasi_http.engine import Engine


@pytest.fixture(scope="session")
def world(engine: Engine) -> Iterator[World]:
    """The abi guests, linked as they are asked for."""
    made = World(engine)
    yield made
    made.close()
