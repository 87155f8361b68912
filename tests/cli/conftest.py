"""The command runs in the process of the tests, and changes it."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_process() -> Iterator[None]:
    """What the command changed is as it was."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    for number, handler in handlers.items():
        signal.signal(number, handler)
