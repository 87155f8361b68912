"""wasi:random: unpredictable bytes.

The insecure interfaces use the operating system's generator, too: the output of Python's would reveal the state on
which its other users in the host depend.
"""

from __future__ import annotations

from wasi_http.component import Interface, State, func, u64
from wasi_http.engine import Trap
from wasi_http.wasi.context import WasiCtx, WasiView

__all__ = ["Insecure", "InsecureSeed", "Random"]


def _checked(ctx: WasiCtx, length: int) -> int:
    if length > ctx.max_random_bytes:
        raise Trap(f"{length} random bytes exceed the limit of {ctx.max_random_bytes}")
    return length


class Random(Interface, name="wasi:random/random@0.2.12"):
    @func
    def get_random_bytes(state: State[WasiView], len_: u64) -> bytes:
        return state.ctx.random(_checked(state.ctx, len_))

    @func
    def get_random_u64(state: State[WasiView]) -> u64:
        return int.from_bytes(state.ctx.random(8), "little")


class Insecure(Interface, name="wasi:random/insecure@0.2.12"):
    @func
    def get_insecure_random_bytes(state: State[WasiView], len_: u64) -> bytes:
        return state.ctx.insecure_random(_checked(state.ctx, len_))

    @func
    def get_insecure_random_u64(state: State[WasiView]) -> u64:
        return int.from_bytes(state.ctx.insecure_random(8), "little")


class InsecureSeed(Interface, name="wasi:random/insecure-seed@0.2.12"):
    @func
    def insecure_seed(state: State[WasiView]) -> tuple[u64, u64]:
        seed = state.ctx.insecure_random(16)
        return int.from_bytes(seed[:8], "little"), int.from_bytes(seed[8:], "little")
