from __future__ import annotations

import click
import pytest

from wasi_http.cli.sizes import MEMORY_SIZE, SIZE


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


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5GiB", "1TB", "1 2", "0x10", "1MB", "٣", "9" * 5000])
def test_no_sizes(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        SIZE.convert(text, None, None)


@pytest.mark.parametrize(("text", "size"), [("64KiB", 65536), ("65537", 65537), ("4GiB", 4 << 30), (65536, 65536)])
def test_sizes_of_memories(text: str | int, size: int) -> None:
    assert MEMORY_SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["0", "65535", "5GiB", "4294967297", 0])
def test_no_sizes_of_memories(text: str | int) -> None:
    with pytest.raises(click.BadParameter, match="it must be 64KiB to 4GiB"):
        MEMORY_SIZE.convert(text, None, None)


def test_no_size_is_larger_than_numbers_of_64_bits() -> None:
    with pytest.raises(click.BadParameter, match="it must be 0 to 4294967296GiB"):
        SIZE.convert("4294967297GiB", None, None)
