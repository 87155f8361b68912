"""Each canonical built-in has one row, which decoder, plan and linker go by."""

from __future__ import annotations

import re

import pytest

from tests.component.encode import component, section
from wasi_http.component.canon.table import BUILTINS, Builtin
from wasi_http.component.decode.decoder import decode
from wasi_http.component.model.errors import InvalidComponent

NAMES = [builtin.name for builtin in BUILTINS.values()]


def test_rows_are_unique_and_complete() -> None:
    assert len(set(NAMES)) == len(NAMES) == 45
    for opcode, builtin in BUILTINS.items():
        assert opcode == builtin.opcode > 0x01
        assert (builtin.function is None) == (builtin.core_type is None) == bool(builtin.refusal)


@pytest.mark.parametrize("builtin", [row for row in BUILTINS.values() if row.refusal], ids=lambda row: row.name)
def test_what_is_not_supported_is_refused_with_the_reason(builtin: Builtin) -> None:
    binary = component(section(8, [bytes([builtin.opcode, 0, 0, 0])]))
    message = f"the canonical function {builtin.name} is not supported yet: {builtin.refusal}"
    with pytest.raises(InvalidComponent, match=re.escape(message)):
        decode(binary)


@pytest.mark.parametrize("opcode", sorted(set(range(2, 0x44)) - BUILTINS.keys()))
def test_codes_without_a_row_are_no_functions(opcode: int) -> None:
    with pytest.raises(InvalidComponent, match=f"0x{opcode:02x} is not a canonical function"):
        decode(component(section(8, [bytes([opcode])])))
