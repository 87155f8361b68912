"""Bypasses shims.

A core module that imports host functions needs them before its memory exists, which those functions use. Tools
(`wit-component`) therefore put a *shim* in between: a module whose functions call through a table, and a *fixup*
module, instantiated last, that fills the table. Here host functions look their memory up when they are called, so calls
through a shim can go to the host function directly; if all do, shim and fixup are not instantiated.

A module counts as a shim only if every byte of its code is that of one, only the fixup imports its table, and no code
runs before the table is filled. Otherwise it is instantiated, and behaves as written, traps included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TypeVar

from wasi_http.component.decode.definitions import CoreModule
from wasi_http.component.link.plan import Plan
from wasi_http.engine import Module, ModuleBinary, Unreadable
from wasi_http.engine.binary.reader import Reader

__all__ = ["bypass_shims"]

T = TypeVar("T")

_MAX_SIZE = 256 * 1024

_LOCAL_GET, _I32_CONST, _CALL_INDIRECT, _END = 0x20, 0x41, 0x11, 0x0B
_FUNCREF = 0x70
_NUMBERS = frozenset({0x7C, 0x7D, 0x7E, 0x7F})

Source = int | tuple[int, int]


def bypass_shims(plan: Plan, modules: Sequence[tuple[CoreModule, Module | ModuleBinary]]) -> None:
    """Rewires ``plan`` in place.

    The modules need not be validated: a malformed one is not a shim. Takes time linear in the size of the plan and of
    the modules, however often they are instantiated.
    """
    tables: list[tuple[int, tuple[int, int]]] = []  # steps with the first table that each imports
    users: dict[tuple[int, int], set[int]] = {}
    for step, (_, sources) in enumerate(plan.steps):
        found = [s for s in sources if not isinstance(s, int) and _kind(plan, modules, s) == "table"]
        for source in found:
            users.setdefault(source, set()).add(step)
        if found:
            tables.append((step, found[0]))
    read_shim = cache(lambda position: _unless_malformed(_read_shim, modules[position][0].code))
    fixup_elements = cache(
        lambda position: _unless_malformed(_fixup_elements, modules[position][0].code, modules[position][1])
    )
    starts = cache(lambda position: _starts(modules[position][0].code))
    # The number of steps before each that run a start function.
    started = list(accumulate((starts(position) for position, _ in plan.steps), initial=0)) if tables else []
    for fixup, table in tables:
        if len(users[table]) > 1 or started[fixup] > started[table[0] + 1]:
            continue
        filled = fixup_elements(plan.steps[fixup][0])
        shim = None if filled is None else read_shim(plan.steps[table[0]][0])
        if filled is not None and shim is not None and len(filled) <= shim.size:
            _bypass(plan, modules, table[0], fixup, filled, shim.called)
            return


def _kind(plan: Plan, modules: Sequence[tuple[CoreModule, Module | ModuleBinary]], source: tuple[int, int]) -> str:
    return modules[plan.steps[source[0]][0]][1].exports[source[1]].kind


def _bypass(
    plan: Plan,
    modules: Sequence[tuple[CoreModule, Module | ModuleBinary]],
    shim: int,
    fixup: int,
    filled: list[int],
    called: dict[str, int],
) -> None:
    exports = modules[plan.steps[shim][0]][1].exports
    imports = plan.steps[fixup][1]
    wanted = modules[plan.steps[fixup][0]][1].imports
    targets: dict[Source, int] = {}
    for position, export in enumerate(exports):
        slot = called.get(export.name)
        if slot is not None and slot < len(filled):
            target = imports[filled[slot]]
            # A call with another type would trap.
            if isinstance(target, int) and wanted[filled[slot]].type == export.type:
                targets[(shim, position)] = target
    steps = [(module, [targets.get(source, source) for source in sources]) for module, sources in plan.steps]
    used = {source for step, (_, sources) in enumerate(steps) if step != fixup for source in sources}
    used.update(plan.captures)
    if any(not isinstance(source, int) and source[0] in (shim, fixup) for source in used):
        plan.steps[:] = steps
        return
    # They are unused now: remove them and renumber later steps.
    moved = {step: step - (step > shim) - (step > fixup) for step in range(len(steps))}

    def move(source: Source) -> Source:
        return source if isinstance(source, int) else (moved[source[0]], source[1])

    plan.steps[:] = [
        (module, [move(source) for source in sources])
        for step, (module, sources) in enumerate(steps)
        if step not in (shim, fixup)
    ]
    plan.captures[:] = [(moved[step], position) for step, position in plan.captures]


def _unless_malformed(read: Callable[..., T | None], *arguments: object) -> T | None:
    try:
        return read(*arguments)
    except (IndexError, Unreadable):
        return None


def _starts(code: memoryview) -> bool:
    """Returns whether the module has a start function. Its sections are known to be well-formed."""
    reader = Reader(code)
    reader.skip(8)
    while reader.at < reader.end:
        if reader.byte() == _START:
            return True
        reader.skip(reader.u32())
    return False


def _sections(code: memoryview, allowed: frozenset[int]) -> dict[int, Reader] | None:
    """Returns the sections of a small module by number, None if any but custom ones are not ``allowed``."""
    if len(code) > _MAX_SIZE:
        return None
    reader = Reader(code)
    reader.skip(8)
    sections: dict[int, Reader] = {}
    while reader.at < reader.end:
        number = reader.byte()
        section = reader.part(reader.u32())
        if number != 0:
            if number not in allowed or number in sections:
                return None
            sections[number] = section
    return sections if sections.keys() == allowed else None


_TYPE, _IMPORT, _FUNCTION, _TABLE, _EXPORT, _START, _ELEMENT, _CODE = 1, 2, 3, 4, 7, 8, 9, 10


@dataclass(frozen=True, slots=True)
class _Shim:
    """``called`` has for each exported function the slot of the table that it calls with its own arguments.

    ``size`` is the minimum size of the table.
    """

    called: dict[str, int]
    size: int


def _read_shim(code: memoryview) -> _Shim | None:
    sections = _sections(code, frozenset({_TYPE, _FUNCTION, _TABLE, _EXPORT, _CODE}))
    if sections is None:
        return None
    types = sections[_TYPE]
    params = []
    for _ in range(types.u32()):
        if types.byte() != 0x60:
            return None
        params.append(types.u32())
        if any(types.byte() not in _NUMBERS for _ in range(params[-1])):
            return None
        if any(types.byte() not in _NUMBERS for _ in range(types.u32())):
            return None
    functions = sections[_FUNCTION]
    signatures = [functions.u32() for _ in range(functions.u32())]
    table = sections[_TABLE]
    if table.u32() != 1 or table.byte() != _FUNCREF or table.byte() > 1:
        return None
    bodies = sections[_CODE]
    slots = []
    for index in range(bodies.u32()):
        slot = _forwarded_slot(bodies.part(bodies.u32()), params[signatures[index]], signatures[index])
        if slot is None:
            return None
        slots.append(slot)
    exports = sections[_EXPORT]
    called = {}
    for _ in range(exports.u32()):
        name = exports.name()
        kind, index = exports.byte(), exports.u32()
        if kind == 0:
            called[name] = slots[index]
        elif kind != 1:
            return None
    return _Shim(called, table.u32())


def _forwarded_slot(body: Reader, params: int, signature: int) -> int | None:
    if body.u32() != 0:  # locals
        return None
    for index in range(params):
        if body.byte() != _LOCAL_GET or body.u32() != index:
            return None
    if body.byte() != _I32_CONST:
        return None
    # Small signed numbers read like unsigned ones: below 64 in one byte, below 8192 in two.
    start = body.at
    slot = body.u32()
    if slot >> (7 * (body.at - start) - 1):
        return None
    if body.byte() != _CALL_INDIRECT or body.u32() != signature or body.u32() != 0 or body.byte() != _END:
        return None
    return slot if body.at == body.end else None


def _fixup_elements(code: memoryview, module: Module | ModuleBinary) -> list[int] | None:
    """Returns, for each slot that a fixup fills, the position of the import it puts there."""
    sections = _sections(code, frozenset({_TYPE, _IMPORT, _ELEMENT}))
    if sections is None:
        return None
    functions = [position for position, wanted in enumerate(module.imports) if wanted.kind == "func"]
    if len(functions) != len(module.imports) - 1:
        return None
    elements = sections[_ELEMENT]
    if elements.u32() != 1:
        return None
    form = elements.u32()
    if form == 2 and elements.u32() != 0:
        return None
    if form not in (0, 2) or elements.byte() != _I32_CONST or elements.u32() != 0 or elements.byte() != _END:
        return None
    if form == 2 and elements.byte() != 0:
        return None
    indices = [elements.u32() for _ in range(elements.u32())]
    return [functions[index] for index in indices]
