from __future__ import annotations

import click
import pytest

from wasi_http.cli.sizes import SIZE


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096b", 4096),
        ("64k", 65536),
        ("64KiB", 65536),
        ("1M", 1 << 20),
        ("256MiB", 256 << 20),
        ("1 GiB", 1 << 30),
        ("2g", 2 << 30),
        (100, 100),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5GiB", "1TB", "1 2", "0x10", "1MB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size"):
        SIZE.convert(text, None, None)
