"""The standing attack with a fixed seed; `python -m tests.attack` goes on with others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack import clients, components, machines, upstreams, values
from tests.attack.campaign import Field, campaign
from tests.guests.build import GuestUnavailable
from wasi_http.engine import Engine

ATTACKS = {module.ATTACK.name: module.ATTACK for module in (components, values, clients, upstreams, machines)}

SEED = 20261128

#: Parts of an attack's rounds, so that several processes can share them.
PARTS = 4


@pytest.fixture(scope="module")
def field(engine: Engine) -> Field:
    return Field(engine)


def part(name: str, number: int) -> Iterator[int]:
    rounds = ATTACKS[name].rounds
    return iter(range(number * rounds // PARTS, (number + 1) * rounds // PARTS))


@pytest.mark.parametrize("number", range(PARTS))
@pytest.mark.parametrize("name", ATTACKS)
def test_attack(field: Field, name: str, number: int) -> None:
    try:
        assert list(campaign(ATTACKS[name], field, SEED, part(name, number)))
    except GuestUnavailable as error:
        pytest.skip(str(error))
