"""Requests per second of a Python guest (componentize-py), each in a fresh instance, against `wasmtime serve`.

One server process on one core, wrk with 8 connections on another. Such a guest has 18 MB of code and 27 imported
interfaces, and a memory of some megabytes that every instance begins with.
"""

from __future__ import annotations

import measure
import peers

TARGET = 1.0


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=7)
    parser.add_argument("--seconds", type=int, default=4, help="how long each measurement takes")
    parser.add_argument("--connections", type=int, default=8, help="how many requests are under way at a time")
    options = parser.parse_args()
    measure.heading(f"python: {options.connections} connections, one core")
    component = peers.guest("py_hello")
    # The guest imports all of WASI, which `wasmtime serve` provides on demand.
    with peers.product(component) as product, peers.peer(component, "-Scli") as peer:
        ratio = measure.compare_requests(
            product,
            peer,
            connections=options.connections,
            rounds=options.rounds,
            seconds=options.seconds,
            body=b"Hello from Python!\n",
        )
    return measure.verdict(ratio, TARGET)


if __name__ == "__main__":
    measure.run(main)
