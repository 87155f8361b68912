"""How long 2,000 requests at once take when each guest sleeps for a second in `poll`, in one process.

All connections are opened and all requests sent before the first answer comes; the time is that until the last one.
`wasmtime serve` takes turns where it can serve so many at once.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import time
from dataclasses import dataclass

import measure
import peers

SECONDS = 3.0


@dataclass
class Outcome:
    """``seconds`` is None when requests failed; ``failed`` is how many did and ``why`` how one of them did."""

    seconds: float | None
    failed: int = 0
    why: str = ""


def storm(address: tuple[str, int], count: int, target: str, body: bytes) -> Outcome:
    """``count`` requests on as many connections."""
    request = f"GET {target} HTTP/1.1\r\nHost: {address[0]}\r\nConnection: close\r\n\r\n".encode()
    sockets: dict[int, socket.socket] = {}
    answers: dict[int, bytes] = {}
    unsent = set()
    failed, why = 0, ""
    with select.epoll() as poll:
        began = time.perf_counter()
        for _ in range(count):
            client = socket.socket()
            client.setblocking(False)
            code = client.connect_ex(address)
            if code not in (0, errno.EINPROGRESS):
                raise measure.Wrong(f"cannot connect: {os.strerror(code)}")
            sockets[client.fileno()] = client
            answers[client.fileno()] = b""
            unsent.add(client.fileno())
            poll.register(client, select.EPOLLOUT)
        while sockets:
            events = poll.poll(60)
            if not events:
                raise measure.Wrong(f"{len(sockets)} of {count} requests were not answered within a minute")
            for number, _ in events:
                client = sockets[number]
                try:
                    if number in unsent:
                        unsent.remove(number)
                        client.send(request)
                        poll.modify(client, select.EPOLLIN)
                        continue
                    data = client.recv(65536)
                except OSError as error:
                    failed, why, data = failed + 1, str(error), b""
                    answers[number] = body  # counted already
                answers[number] += data
                if not data:
                    poll.unregister(client)
                    client.close()
                    del sockets[number]
        took = time.perf_counter() - began
    for answer in answers.values():
        if answer != body and not (answer.startswith(b"HTTP/1.1 200 ") and body in answer):
            failed, why = failed + 1, repr(answer[:60])
    return Outcome(None if failed else took, failed, why)


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=3)
    parser.add_argument("--count", type=int, default=2000, help="how many requests at once")
    options = parser.parse_args()
    measure.heading(f"sleep: {options.count:,} guests asleep for 1 s, one core")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = options.count + 200
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise peers.Unavailable(f"{wanted} files have to be open at a time, and the system allows {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    component = peers.guest("c_sleep")
    limits = [f"--max-concurrent-{what}={options.count}" for what in ("requests", "connections")]
    with peers.product(component, *limits) as product, peers.peer(component) as peer:
        os.sched_setaffinity(0, {peers.LOAD_CORE})

        def once(server: peers.Server) -> Outcome:
            return storm(server.address, options.count, "/sleep/1000", b"slept 1000\n")

        ours, theirs = measure.take_turns(options.rounds, lambda: once(product), lambda: once(peer))
        print(f"  peak memory of wasi-http: {product.peak_memory() / 1e6:,.0f} MB")
    for name, outcomes in ((product.name, ours), (peer.name, theirs)):
        good = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
        bad = [outcome for outcome in outcomes if outcome.seconds is None]
        if good:
            print(f"  {name:<15} {measure.spread(good, '.2f')} s")
        if bad:
            print(f"  {name:<15} failed {bad[0].failed:,} requests: {bad[0].why}")
            if name == product.name:
                raise measure.Wrong("not all requests were answered")
    taken = measure.median([outcome.seconds for outcome in ours if outcome.seconds is not None])
    print(f"  {taken:.2f} s (target ≤ {SECONDS:.2f} s); as a share of that:")
    return measure.verdict(taken / SECONDS, 1.0, at_least=False)


if __name__ == "__main__":
    measure.run(main)
