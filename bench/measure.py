"""Taking turns, load, and how results are told.

What is compared takes turns (A B, B A, A B ...), so that whatever else the machine does strikes both alike. A ratio is
the median of the ratios within the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from peers import LOAD_CORE, Server, Unavailable, pin, versions

__all__ = [
    "Answer",
    "Load",
    "Wrong",
    "ask",
    "compare_requests",
    "compile_c",
    "heading",
    "median",
    "parser",
    "run",
    "spread",
    "take_turns",
    "verdict",
    "wrk",
]

T = TypeVar("T")


class Wrong(Exception):
    """An answer was wrong: figures of a server that fails mean nothing."""


def parser(text: str, rounds: int) -> argparse.ArgumentParser:
    """A program's options; all have ``--rounds``."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="how often each side is measured")
    return made


def run(main: Callable[[], bool]) -> None:
    """Runs a program and exits: 0 when the target is reached, 1 when it is missed, 2 when nothing could be measured."""
    try:
        sys.exit(0 if main() else 1)
    except (Unavailable, Wrong) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def take_turns(rounds: int, product: Callable[[], T], peer: Callable[[], T]) -> tuple[list[T], list[T]]:
    """The results of both, round by round; who begins alternates."""
    ours: list[T] = []
    theirs: list[T] = []
    for number in range(rounds):
        if number % 2:
            theirs.append(peer())
            ours.append(product())
        else:
            ours.append(product())
            theirs.append(peer())
    return ours, theirs


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], form: str) -> str:
    """The median, and between what the values lie."""
    return f"{format(median(values), form)} ({format(min(values), form)} to {format(max(values), form)})"


def verdict(ratio: float, target: float, *, at_least: bool = True) -> bool:
    """Prints a program's last line; whether the target is reached."""
    print(f"ratio {ratio:.2f} (target {'≥' if at_least else '≤'} {target:.2f})", flush=True)
    return ratio >= target if at_least else ratio <= target


# One request


@dataclass(frozen=True)
class Answer:
    """``size`` is that of the whole response on the wire."""

    status: int
    body: bytes
    size: int


def ask(address: tuple[str, int], target: str = "/", headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
    """GET, with the headers that wrk sends."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n{more}\r\n".encode())
        with connection.makefile("rb") as stream:
            line = stream.readline()
            size = len(line)
            length: int | None = None
            for header in iter(stream.readline, b""):
                size += len(header)
                name, _, value = header.strip().lower().partition(b":")
                if name == b"content-length":
                    length = int(value)
                if not name:
                    break
            if not line.startswith(b"HTTP/1.1 "):
                raise Wrong(f"this is no response: {line!r}")
            if length is not None:
                body = stream.read(length)
                return Answer(int(line.split()[1]), body, size + len(body))
            body = b""
            while True:
                head = stream.readline()
                chunk = stream.read(int(head, 16) + 2)
                size += len(head) + len(chunk)
                if len(chunk) <= 2:
                    return Answer(int(line.split()[1]), body, size)
                body += chunk[:-2]


# wrk

_DONE = """
done = function(summary, latency, requests)
  io.write(string.format(
    'result {"requests":%d,"seconds":%f,"bytes":%d,"errors":%d,"p50":%f,"p99":%f}\\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
      + summary.errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw, and how much processor time the server took for it; latencies are in milliseconds."""

    requests: int
    seconds: float
    bytes: int
    errors: int
    p50: float
    p99: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def cost(self) -> float:
        """Microseconds of the server's processor time per request."""
        return self.cpu / self.requests * 1e6


def wrk(
    server: Server,
    connections: int,
    seconds: int,
    body: bytes,
    target: str = "/",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Load:
    """Loads a server from the load's core; raises Wrong unless every response was right."""
    if shutil.which("wrk") is None:
        raise Unavailable("wrk is missing: apt-get install wrk")
    answer = ask(server.address, target, headers)
    if (answer.status, answer.body) != (200, body):
        raise Wrong(f"{server.name} answered {answer.status} {answer.body[:80]!r}, not 200 {body!r}")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_DONE)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name]
        command += [option for name, value in headers.items() for option in ("-H", f"{name}: {value}")]
        command.append(server.url + target)
        before = server.cpu_seconds()
        done = subprocess.run(pin(LOAD_CORE, command), capture_output=True, text=True)
        cpu = server.cpu_seconds() - before
    result = next((line for line in done.stdout.splitlines() if line.startswith("result ")), None)
    if result is None:
        raise Unavailable(f"wrk failed: {done.stdout}{done.stderr}")
    load = Load(**json.loads(result.partition(" ")[2]), cpu=cpu)
    if load.errors:
        raise Wrong(f"{server.name}: {load.errors} of {load.requests} requests failed")
    # All responses are equally long, so their number of bytes tells whether one was different; some are under way
    # when wrk stops.
    if not load.requests * answer.size <= load.bytes <= (load.requests + connections) * answer.size:
        raise Wrong(f"{server.name}: {load.requests} responses of {answer.size} bytes made {load.bytes} bytes")
    return load


def compare_requests(
    product: Server,
    peer: Server,
    *,
    connections: int,
    rounds: int,
    seconds: int,
    body: bytes,
    target: str = "/",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> float:
    """Requests per second of both under the same load; prints them and returns the ratio."""
    for server in (product, peer):
        wrk(server, connections, 1, body, target, headers)
    ours, theirs = take_turns(
        rounds,
        lambda: wrk(product, connections, seconds, body, target, headers),
        lambda: wrk(peer, connections, seconds, body, target, headers),
    )
    for server, loads in ((product, ours), (peer, theirs)):
        half, most = median([load.p50 for load in loads]), median([load.p99 for load in loads])
        print(
            f"  {server.name:<15} {spread([load.rate for load in loads], ',.0f')} requests/s,"
            f" {median([load.cost for load in loads]):,.1f} µs of processor time each,"
            f" latency {half:.2f} ms, 99 %: {most:.2f} ms"
        )
        if server.complaints:
            print(f"  {server.name} wrote {len(server.complaints)} lines, the first: {server.complaints[0]}")
    ratio = median([mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True)])
    cost = median([other.cost / mine.cost for mine, other in zip(ours, theirs, strict=True)])
    print(f"  ratio {ratio:.2f}; by processor time {cost:.2f}", flush=True)
    return ratio


# C


@contextmanager
def compile_c(source: Path, *flags: str) -> Iterator[Path]:
    """A C program of this directory, compiled."""
    if shutil.which("gcc") is None:
        raise Unavailable("gcc is missing: apt-get install gcc")
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / source.stem
        command = ["gcc", "-O2", "-std=gnu11", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-variable"]
        command += [*flags, str(source), "-o", str(program), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"{' '.join(command)}\n{done.stderr}")
        yield program


def heading(text: str) -> None:
    print(f"{text}\n  {versions()}", flush=True)
