"""What all tests share."""

from __future__ import annotations

import gc
import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import wasi_http
from tests.guests.build import CACHE
from wasi_http.engine import Engine, EngineConfig, live_fibers, live_stores


def compiled() -> Path:
    """The compile cache that all test processes and runs share, until the sources that decide what is in it change."""
    made = hashlib.sha256()
    for floor in ("engine", "component"):
        for path in sorted((Path(wasi_http.__file__).parent / floor).rglob("*.py")):
            made.update(path.read_bytes())
    directory = CACHE / "compiled" / made.hexdigest()[:16]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def engine() -> Engine:
    """One engine for all tests of a process."""
    return Engine(EngineConfig(max_instances=100, cache_directory=str(compiled())))


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A server that ran in this process ignores signals at its end, and the processes of other tests would as well."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a store or a running call behind."""
    gc.collect()
    before = live_stores(), live_fibers()
    yield
    gc.collect()
    assert (live_stores(), live_fibers()) == before


def pytest_collection_finish() -> None:
    """Keeps what exists before the tests, all of them included, out of the many collections that they make."""
    gc.collect()
    gc.freeze()
