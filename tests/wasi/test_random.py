from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from wasi_http.engine import Trap
from wasi_http.wasi.random import Insecure, InsecureSeed, Random

from .view import View

MAX_U64 = 2**64 - 1
BYTES = pytest.mark.parametrize("get", [Random.get_random_bytes, Insecure.get_insecure_random_bytes])


@BYTES
@pytest.mark.parametrize("length", [0, 1, 7, 100_000])
def test_bytes(get: Callable[[View, int], bytes], length: int) -> None:
    view = View()
    assert len(get(view, length)) == length
    assert length < 7 or get(view, length) != get(view, length)


@BYTES
@pytest.mark.parametrize(("limit", "length"), [(10, 11), (10, MAX_U64), (64 << 20, (64 << 20) + 1)])
def test_too_many_bytes_trap(get: Callable[[View, int], bytes], limit: int, length: int) -> None:
    asked: list[int] = []

    def source(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    view = View(random=source, insecure_random=source, max_random_bytes=limit)
    with pytest.raises(Trap, match="random bytes exceed the limit"):
        get(view, length)
    assert asked == []
    assert len(get(view, 10)) == 10


@pytest.mark.parametrize("get", [Random.get_random_u64, Insecure.get_insecure_random_u64])
def test_u64(get: Callable[[View], int]) -> None:
    view = View()
    values = {get(view) for _ in range(100)}
    assert len(values) == 100
    assert all(0 <= value <= MAX_U64 for value in values)
    assert max(values) >= 2**60


def test_seed() -> None:
    first, second = InsecureSeed.insecure_seed(View()), InsecureSeed.insecure_seed(View())
    assert first != second
    assert all(0 <= value <= MAX_U64 for value in first + second)


@pytest.mark.parametrize(
    ("get", "expected"),
    [
        (lambda view: Random.get_random_bytes(view, 2), b"SS"),
        (Random.get_random_u64, int.from_bytes(b"S" * 8, "little")),
        (lambda view: Insecure.get_insecure_random_bytes(view, 2), b"II"),
        (Insecure.get_insecure_random_u64, int.from_bytes(b"I" * 8, "little")),
        (InsecureSeed.insecure_seed, (int.from_bytes(b"I" * 8, "little"),) * 2),
    ],
)
def test_sources_can_be_replaced(get: Callable[[View], Any], expected: Any) -> None:
    view = View(random=lambda count: b"S" * count, insecure_random=lambda count: b"I" * count)
    assert get(view) == expected


def test_the_state_of_the_hosts_own_generator_is_not_touched() -> None:
    state = random.getstate()
    Insecure.get_insecure_random_bytes(View(), 100)
    Insecure.get_insecure_random_u64(View())
    InsecureSeed.insecure_seed(View())
    assert random.getstate() == state
