"""Requests per second of a hello whose instances serve 1,000 requests each, against `wasmtime serve` likewise.

One server process on one core, wrk with 32 connections on another. The guest is examples/hello.wat as wit-component
builds it.
"""

from __future__ import annotations

import measure
import peers

TARGET = 0.5
FLAG = "--max-instance-reuse-count"


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=7)
    parser.add_argument("--seconds", type=int, default=3, help="how long each measurement takes")
    parser.add_argument("--connections", type=int, default=32, help="how many requests are under way at a time")
    parser.add_argument("--count", type=int, default=1000, help="how many requests an instance serves")
    options = parser.parse_args()
    measure.heading(f"reuse: {options.connections} connections, {options.count} requests for each instance, one core")
    component = peers.guest("hello")
    flags = (FLAG, str(options.count))
    with peers.product(component, *flags) as product, peers.peer(component, *flags) as peer:
        ratio = measure.compare_requests(
            product,
            peer,
            connections=options.connections,
            rounds=options.rounds,
            seconds=options.seconds,
            body=b"Hello, WASI!\n",
        )
    return measure.verdict(ratio, TARGET)


if __name__ == "__main__":
    measure.run(main)
