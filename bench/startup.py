"""How long `wasi-http serve` takes from the start of its process to its first answer, with a warm compile cache.

The guest is one of componentize-py: 18 MB of code. `wasmtime serve` with a warm cache of its own takes turns with it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import measure
import peers

SECONDS = 0.6


def main() -> bool:
    options = measure.parser(__doc__ or "", rounds=9).parse_args()
    measure.heading("startup: a Python guest, warm cache, one core")
    component = peers.guest("py_hello")

    with tempfile.TemporaryDirectory() as cache:
        environment = {"XDG_CACHE_HOME": cache}

        def first_answer(start: Callable[[], peers.Server]) -> float:
            began = time.perf_counter()
            with start() as server:
                answer = measure.ask(server.address)
                took = time.perf_counter() - began
            if (answer.status, answer.body) != (200, b"Hello from Python!\n"):
                raise measure.Wrong(f"{server.name} answered {answer}")
            return took

        def product() -> float:
            return first_answer(lambda: peers.product(component, environment=environment))

        def peer() -> float:
            return first_answer(lambda: peers.peer(component, "-Scli", "-Ccache=y", environment=environment))

        cold = product(), peer()
        ours, theirs = measure.take_turns(options.rounds, product, peer)
    for name, times, first in (("wasi-http", ours, cold[0]), ("wasmtime serve", theirs, cold[1])):
        print(f"  {name:<15} {measure.spread(times, '.3f')} s; with a cold cache {first:.1f} s")
    ratio = measure.median([mine / other for mine, other in zip(ours, theirs, strict=True)])
    print(f"  {ratio:.2f} times as long as wasmtime serve")
    taken = measure.median(ours)
    print(f"  {taken:.3f} s (target ≤ {SECONDS:.2f} s); as a share of that:")
    return measure.verdict(taken / SECONDS, 1.0, at_least=False)


if __name__ == "__main__":
    measure.run(main)
