"""The canonical built-in functions, a row for each (specification: Binary.md, "Canonical Definitions").

Decoder, plan and linker read this table: to support a built-in, give its row a core type and a class. Rows of
unsupported ones say why.
"""

from __future__ import annotations

from dataclasses import dataclass

from wasi_http.component.canon.resources import ResourceBuiltin, ResourceDrop, ResourceNew, ResourceRep
from wasi_http.component.model.errors import MADE_FOR_WASI_0_3
from wasi_http.component.model.types import ResourceType
from wasi_http.engine import CoreType

__all__ = ["BUILTINS", "Builtin"]

_THREADS = "threads within components are a proposal"


@dataclass(frozen=True, slots=True)
class Builtin:
    """``opcode`` is its code in binaries, ``name`` its name in the text format.

    Supported ones operate on a resource type, with ``local`` one that the component itself defines; their function has
    the ``core_type`` and is a ``function`` object. For others ``refusal`` says why they are not supported.
    """

    opcode: int
    name: str
    core_type: CoreType | None = None
    function: type[ResourceBuiltin] | None = None
    local: bool = False
    refusal: str = ""

    def make(self, resource: ResourceType, instance: int, destructor: int | None) -> ResourceBuiltin:
        """Returns the function for one component instance; ``destructor`` is a position among the captures."""
        assert self.function is not None  # the decoder refuses the others
        assert self.core_type is not None
        name = f"{self.name} of {resource}"
        return self.function(name, self.core_type, resource, instance, -1 if destructor is None else destructor)


_ROWS = (
    Builtin(0x02, "resource.new", CoreType(("i32",), ("i32",)), ResourceNew, local=True),
    Builtin(0x03, "resource.drop", CoreType(("i32",), ()), ResourceDrop),
    Builtin(0x04, "resource.rep", CoreType(("i32",), ("i32",)), ResourceRep, local=True),
    Builtin(0x05, "task.cancel", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x06, "subtask.cancel", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x09, "task.return", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x0A, "context.get", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x0B, "context.set", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x0C, "thread.yield", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x0D, "subtask.drop", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x0E, "stream.new", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x0F, "stream.read", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x10, "stream.write", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x11, "stream.cancel-read", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x12, "stream.cancel-write", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x13, "stream.drop-readable", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x14, "stream.drop-writable", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x15, "future.new", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x16, "future.read", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x17, "future.write", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x18, "future.cancel-read", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x19, "future.cancel-write", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x1A, "future.drop-readable", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x1B, "future.drop-writable", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x1C, "error-context.new", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x1D, "error-context.debug-message", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x1E, "error-context.drop", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x1F, "waitable-set.new", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x20, "waitable-set.wait", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x21, "waitable-set.poll", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x22, "waitable-set.drop", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x23, "waitable.join", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x24, "backpressure.inc", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x25, "backpressure.dec", refusal=MADE_FOR_WASI_0_3),
    Builtin(0x26, "thread.index", refusal=_THREADS),
    Builtin(0x27, "thread.new-indirect", refusal=_THREADS),
    Builtin(0x28, "thread.resume-later", refusal=_THREADS),
    Builtin(0x29, "thread.suspend", refusal=_THREADS),
    Builtin(0x2A, "thread.suspend-then-resume", refusal=_THREADS),
    Builtin(0x2B, "thread.yield-then-resume", refusal=_THREADS),
    Builtin(0x2C, "thread.suspend-then-promote", refusal=_THREADS),
    Builtin(0x2D, "thread.yield-then-promote", refusal=_THREADS),
    Builtin(0x40, "thread.spawn-ref", refusal=_THREADS),
    Builtin(0x41, "thread.spawn-indirect", refusal=_THREADS),
    Builtin(0x42, "thread.available-parallelism", refusal=_THREADS),
)

#: By opcode, without ``canon lift`` and ``canon lower`` (0x00 and 0x01), which take functions.
BUILTINS = {row.opcode: row for row in _ROWS}
