"""How long a guest computes that never waits: a JavaScript loop, interpreted by the engine in the component.

Guests are compiled with checks that make them interruptible, which `wasmtime serve` has only with a time limit; so
there are two of each: as they are by default, and with and without these checks.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import measure
import peers

TARGET = 1.25


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=5)
    parser.add_argument("--steps", type=int, default=2_000_000, help="how often the guest goes round its loop")
    options = parser.parse_args()
    measure.heading(f"compute: {options.steps:,} rounds of a JavaScript loop")
    component = peers.guest("js_fetch")
    target = f"/sum/{options.steps}"

    def seconds(server: peers.Server) -> float:
        began = time.perf_counter()
        answer = measure.ask(server.address, target)
        if answer.status != 200:
            raise measure.Wrong(f"{server.name} answered {answer.status}")
        return time.perf_counter() - began

    with ExitStack() as servers:
        product = servers.enter_context(peers.product(component))
        trusting = servers.enter_context(peers.product(component, "--trust-guest"))
        limited = servers.enter_context(peers.peer(component, "-Scli", "-Wtimeout=60s"))
        peer = servers.enter_context(peers.peer(component, "-Scli"))
        ours, theirs = measure.take_turns(options.rounds, lambda: seconds(product), lambda: seconds(limited))
        bare, plain = measure.take_turns(options.rounds, lambda: seconds(trusting), lambda: seconds(peer))
    for name, times in (
        ("wasi-http", ours),
        ("wasi-http --trust-guest", bare),
        ("wasmtime serve -Wtimeout=60s", theirs),
        ("wasmtime serve", plain),
    ):
        print(f"{name:<30} {measure.spread(times, '.3f')} s")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return measure.verdict(measure.median(ratios), TARGET, at_least=False)


if __name__ == "__main__":
    measure.run(main)
