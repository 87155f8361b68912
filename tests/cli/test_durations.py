from __future__ import annotations

import click
import pytest

from wasi_http.cli.durations import DURATION


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
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1d", "1e3s", "1.s", ".5s", "inf", "nan", "1s2", "1,5s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration"):
        DURATION.convert(text, None, None)
