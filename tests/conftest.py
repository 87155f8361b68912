"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasi_http.engine import Engine, EngineConfig, live_fibers, live_stores


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """One engine for the whole run, with a compile cache of its own."""
    cache = Path(tmp_path_factory.mktemp("cache"))
    cache.chmod(0o700)
    return Engine(EngineConfig(max_instances=100, cache_directory=str(cache)))


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a store or a running call behind."""
    gc.collect()
    before = live_stores(), live_fibers()
    yield
    gc.collect()
    assert (live_stores(), live_fibers()) == before
