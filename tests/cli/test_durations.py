from __future__ import annotations

import asyncio

import click
import pytest

from wasi_http.cli.durations import DURATION, POSITIVE_DURATION
from wasi_http.settings import LONGEST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("500ms", 0.5),
        ("100us", 0.0001),
        ("5ns", 5e-9),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("10", 10.0),
        (" 3s ", 3.0),
        ("0s", 0.0),
        (2.5, 2.5),
        (3, 3.0),
        ("8760h", LONGEST),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1d", "1e3s", "1.s", ".5s", "inf", "nan", "1s2", "1,5s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize("text", ["8761h", "9" * 400, "31536000.5", 1e9])
def test_too_long(text: str | float) -> None:
    for kind in (DURATION, POSITIVE_DURATION):
        with pytest.raises(click.BadParameter, match="it must be at most a year, 8760h"):
            kind.convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "0s", "0.0ms", 0])
def test_positive_durations(text: str | float) -> None:
    assert POSITIVE_DURATION.convert("1ns", None, None) == 1e-9
    with pytest.raises(click.BadParameter, match="it must be longer than 0"):
        POSITIVE_DURATION.convert(text, None, None)


def test_event_loops_have_timers_for_the_longest() -> None:
    async def main() -> None:
        async with asyncio.timeout(LONGEST):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(LONGEST, print).cancel()

    asyncio.run(main())
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
