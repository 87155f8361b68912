"""What a request's instance costs in process, without HTTP: against the same in C.

A fresh store with its state, a fresh instance, a call with the nine host calls of the hello, the response in the host's
hands, and the drop of it all. Nothing of that waits, so it is judged by the processor time that it takes, which other
programs on the machine disturb least. The C probe (instance.c) does the least that libwasmtime allows: one core module,
host functions that do nothing. The product's component has two core modules (three as wit-component builds it) and its
host functions are those of wasi:http.
"""

from __future__ import annotations

import gc
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
import peers

from wasi_http import (
    Component,
    Engine,
    Linker,
    ProxyPre,
    ResourceTable,
    Store,
    WasiCtx,
    WasiHttpCtx,
    WasiHttpView,
    add_to_linker_async,
)
from wasi_http.engine import live_stores, wat_to_wasm
from wasi_http.engine.library import library_path
from wasi_http.flow.pipe import Pipe
from wasi_http.http.message import Body, Request
from wasi_http.http.types import IncomingRequest, ResponseOutparam

RATIO, MICROSECONDS = 2.5, 10.0

#: By the clock, and in processor time.
Cost = tuple[float, float]

CTX, HTTP = WasiCtx(), WasiHttpCtx()


class State(WasiHttpView):
    """As the server has it: contexts are shared by all requests, the account of handles is not."""

    __slots__ = ("ctx", "http", "table")

    def __init__(self) -> None:
        self.table = ResourceTable()
        self.ctx = CTX
        self.http = HTTP


def loop(component: Path) -> Callable[[int], Cost]:
    """The product's side: a function that does it so many times."""
    engine = Engine()
    linker = Linker(engine)
    add_to_linker_async(linker)
    pre = ProxyPre(linker.instantiate_pre(Component.from_file(engine, component)))
    body = Body(Pipe.of())

    def once() -> ResponseOutparam:
        state = State()
        store = Store(engine, state)
        request = IncomingRequest(state, Request.of("GET", "http", "localhost", "/", [], body))
        outparam = ResponseOutparam()
        call = pre.instantiate(store).wasi_http_incoming_handler.start_handle(store, request, outparam)
        if not call.poll():
            raise measure.Wrong("the hello had to wait")
        store.close()
        return outparam

    def times(iterations: int) -> Cost:
        for _ in range(iterations // 10):
            outparam = once()
        response = outparam._outcome
        if response is None or response.pipe is None or response.pipe.take_all() != b"Hello, WASI!\n":
            raise measure.Wrong("the guest's response is wrong")
        began, used = time.perf_counter(), time.process_time()
        for _ in range(iterations):
            once()
        used = time.process_time() - used
        took = time.perf_counter() - began
        if live_stores():
            raise measure.Wrong(f"{live_stores()} stores were left behind")
        return took / iterations * 1e6, used / iterations * 1e6

    return times


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=11)
    parser.add_argument("--iterations", type=int, default=20_000, help="how many instances a measurement makes")
    options = parser.parse_args()
    measure.heading("instance: store, instance, nine host calls, drop")
    os.sched_setaffinity(0, {peers.SERVER_CORE})
    loops = {name: loop(peers.guest(name)) for name in ("hello", "wat_hello")}
    gc.collect()
    gc.freeze()
    headers = peers.ROOT / "src" / "wasi_http" / "engine"
    source = Path(__file__).with_name("instance.c")
    text = (peers.ROOT / "tests" / "guests" / "wat_hello" / "guest.wat").read_text()
    with tempfile.NamedTemporaryFile(suffix=".wasm") as module, measure.compile_c(source, f"-I{headers}") as probe:
        module.write(wat_to_wasm(text))
        module.flush()
        command = [str(probe), str(library_path()), module.name, str(options.iterations)]

        def in_c() -> Cost:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise measure.Wrong(f"the C probe failed: {done.stderr}")
            took, used = map(float, done.stdout.split())
            return took, used

        ours, theirs = measure.take_turns(
            options.rounds, lambda: {name: times(options.iterations) for name, times in loops.items()}, in_c
        )
    for label, costs in (
        *((f"wasi_http, {name}", [costs[name] for costs in ours]) for name in loops),
        ("C probe", theirs),
    ):
        took, used = zip(*costs, strict=True)
        clock = measure.median(took)
        print(f"  {label:<20} {measure.spread(used, '.2f')} µs of processor time, {clock:.2f} µs by the clock")
    microseconds = measure.median([costs["hello"][1] for costs in ours])
    print(f"  {microseconds:.2f} µs (target ≤ {MICROSECONDS:.2f} µs)")
    ratio = measure.median([mine["hello"][1] / other[1] for mine, other in zip(ours, theirs, strict=True)])
    return measure.verdict(ratio, RATIO, at_least=False) and microseconds <= MICROSECONDS


if __name__ == "__main__":
    measure.run(main)
