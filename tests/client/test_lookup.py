"""Looking up names: what hangs costs those who asked for it, and nobody else."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from wasi_http.client import ClientConfig, ConnectionQuota, OutgoingRequestConfig, lookup
from wasi_http.client.lookup import Lookups
from wasi_http.http.errors import HttpError
from wasi_http.http.send import Client
from wasi_http.http.values import DnsErrorPayload, ErrorCode

from .peers import PATIENCE, ask, forever, get, run, serving, until, using


class Names:
    """In place of the system's resolver: names that begin with "slow" have no answer before `answer`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._go_on = threading.Event()
        self._lock = threading.Lock()
        self.under_way = 0

    def getaddrinfo(self, host: str, port: object, **options: object) -> list[tuple[Any, ...]]:
        with self._lock:
            self.asked.append(host)
            self.under_way += 1
        try:
            if host.startswith("slow"):
                assert self._go_on.wait(PATIENCE)
            if host.startswith("none"):
                raise socket.gaierror(socket.EAI_NONAME, "not known")
        finally:
            with self._lock:
                self.under_way -= 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    def answer(self) -> None:
        self._go_on.set()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.answer()
    for thread in threading.enumerate():
        if thread.name == "wasi-http lookup":
            thread.join(PATIENCE)


async def settled(names: Names, count: int) -> None:
    """Waits until so many names are asked for, and sees that no more are."""
    await until(lambda: len(names.asked) >= count)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(names.asked) == count


async def dropped(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_one_guest_leaves_threads_to_the_others(loop: str, names: Names) -> None:
    """Even with as many guests as there are places each finds one, until none is left."""

    async def main() -> None:
        lookups = Lookups(16, 6)
        tasks = []
        # How many of twelve each guest may start while those before hang.
        for guest, count in enumerate([6, 5, 3, 1, 1]):
            before = len(names.asked)
            tasks += [asyncio.create_task(lookups.resolve(f"slow{number}.{guest}", guest)) for number in range(12)]
            await settled(names, before + count)
        # No thread is left.
        late = asyncio.create_task(lookups.resolve("quick", "another"))
        await settled(names, 16)
        names.answer()
        assert await late == ["127.0.0.1"]
        assert await asyncio.gather(*tasks) == [["127.0.0.1"]] * 60
        assert len(names.asked) == 61

    run(loop, main())


def test_a_domain_leaves_threads_to_the_others(loop: str, names: Names) -> None:
    """However many guests ask for names below it."""

    async def main() -> None:
        lookups = Lookups(64, 8)
        slow = [asyncio.create_task(lookups.resolve(f"slow{number}.a.example", number)) for number in range(100)]
        await settled(names, 16)
        for guest in (1, 1000):
            assert await lookups.resolve("quick.b.example2", guest) == ["127.0.0.1"]
        waiting = asyncio.create_task(lookups.resolve("quick.a.example", 1000))
        await settled(names, 18)
        names.answer()
        await asyncio.gather(*slow, waiting)
        assert len(names.asked) == 103

    run(loop, main())


def test_slow_names_of_one_guest_do_not_delay_another(loop: str, names: Names) -> None:
    async def main() -> None:
        async with serving(forever) as server, using(Client()) as client:
            quota = ConnectionQuota(100)
            config = OutgoingRequestConfig(quota=quota)
            slow = [client.send_request(get(f"slow{number}.example"), config) for number in range(12)]
            await settled(names, 8)
            reply = await ask(client, get(f"quick.example:{server.port}"), quota=ConnectionQuota(100))
            assert reply.body == b"hello"
            for pending in slow:
                pending.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            assert quota.used == 0
            # The threads are still there, so the share is used up.
            after = asyncio.ensure_future(ask(client, get("quick.example"), quota=quota, connect_timeout=0.05))
            with pytest.raises(HttpError) as raised:
                await after
            assert raised.value.code is ErrorCode.DnsTimeout
            names.answer()
            await until(lambda: not names.under_way)
            assert (await ask(client, get(f"quick.example:{server.port}"), quota=quota)).body == b"hello"
            await client.close()

    run(loop, main())


def test_requests_without_a_quota_share_half_of_the_threads(loop: str, names: Names) -> None:
    async def main() -> None:
        lookups = Lookups(16, 2)
        tasks = [asyncio.create_task(lookups.resolve(f"slow{number}")) for number in range(20)]
        await settled(names, 8)
        assert await lookups.resolve("quick", "guest") == ["127.0.0.1"]
        names.answer()
        await asyncio.gather(*tasks)

    run(loop, main())


def test_a_name_is_looked_up_once_for_all_who_ask(loop: str, names: Names) -> None:
    async def main() -> None:
        lookups = Lookups(4, 2)
        tasks = [asyncio.create_task(lookups.resolve("slow", guest)) for guest in range(10)]
        await settled(names, 1)
        await dropped(tasks.pop(0))  # who asked first
        names.answer()
        assert await asyncio.gather(*tasks) == [["127.0.0.1"]] * 9
        # What is known is not kept.
        await lookups.resolve("slow", 1)
        assert names.asked == ["slow", "slow"]

    run(loop, main())


def test_a_name_does_not_wait_in_the_queue_of_another_guest(loop: str, names: Names) -> None:
    async def main() -> None:
        lookups = Lookups(16, 2)
        slow = [asyncio.create_task(lookups.resolve(name, "slow")) for name in ("slow1", "slow2", "slow3", "quick")]
        await settled(names, 2)
        assert await lookups.resolve("quick", "other") == ["127.0.0.1"]
        assert await slow.pop() == ["127.0.0.1"]  # what the other one had looked up
        names.answer()
        await asyncio.gather(*slow)
        assert sorted(names.asked) == ["quick", "slow1", "slow2", "slow3"]

    run(loop, main())


def test_queues_take_turns(loop: str, names: Names) -> None:
    async def main() -> None:
        lookups = Lookups(1, 1)
        tasks = [asyncio.create_task(lookups.resolve("slow", 0))]
        await settled(names, 1)
        tasks += [asyncio.create_task(lookups.resolve(f"a{number}", "a")) for number in range(3)]
        tasks += [asyncio.create_task(lookups.resolve(f"b{number}", "b")) for number in range(2)]
        await asyncio.sleep(0)
        names.answer()
        await asyncio.gather(*tasks)
        assert names.asked == ["slow", "a0", "b0", "a1", "b1", "a2"]

    run(loop, main())


def test_a_lookup_that_nobody_waits_for_any_more_is_not_started(loop: str, names: Names) -> None:
    async def main() -> None:
        lookups = Lookups(4, 1)
        slow = asyncio.create_task(lookups.resolve("slow", "guest"))
        await settled(names, 1)
        for _ in range(100):
            waiting = asyncio.create_task(lookups.resolve("dropped", "guest"))
            await asyncio.sleep(0)
            await dropped(waiting)
        last = asyncio.create_task(lookups.resolve("last", "guest"))
        await asyncio.sleep(0)
        names.answer()
        await asyncio.gather(slow, last)
        assert names.asked == ["slow", "last"]

    run(loop, main())


def test_a_failure_reaches_all_who_asked(loop: str, names: Names) -> None:
    async def main() -> None:
        client = Client()
        requests = [asyncio.ensure_future(ask(client, get("none.example"))) for _ in range(3)]
        for request in requests:
            with pytest.raises(HttpError) as raised:
                await request
            assert raised.value.code == ErrorCode.DnsError(DnsErrorPayload("NXDOMAIN", None))

    run(loop, main())


def test_there_is_no_thread(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        lookups = Lookups(4, 2)
        monkeypatch.setattr(threading.Thread, "start", start)
        for _ in range(5):
            with pytest.raises(OSError, match="no thread to look up"):
                await lookups.resolve("a.example")
        monkeypatch.undo()
        monkeypatch.setattr(socket, "getaddrinfo", Names().getaddrinfo)
        assert await lookups.resolve("quick") == ["127.0.0.1"]

    run(loop, main())


def test_a_loop_that_ends_leaves_its_lookups_behind(loop: str, names: Names) -> None:
    lookups = Lookups(4, 2)

    async def ask_and_go() -> None:
        task = asyncio.create_task(lookups.resolve("slow", "guest"))
        await settled(names, 1)
        await dropped(task)

    async def ask_again() -> None:
        task = asyncio.create_task(lookups.resolve("slow", "other"))
        await asyncio.sleep(0)
        names.answer()
        assert await task == ["127.0.0.1"]

    run(loop, ask_and_go())
    run(loop, ask_again())
    assert names.asked == ["slow"]


PROGRAM = """
import asyncio, socket, threading
from wasi_http import Client, OutgoingRequestConfig, Request

asked = threading.Semaphore(0)

def hang(*arguments, **options):
    asked.release()
    threading.Event().wait()

socket.getaddrinfo = hang

async def main():
    client = Client()
    for number in range(12):
        reply = client.send_request(Request("GET", f"http://a{number}.example/"), OutgoingRequestConfig())
        reply.add_done_callback(lambda reply: reply.cancelled() or reply.exception())
    for _ in range(12):
        while not asked.acquire(blocking=False):
            await asyncio.sleep(0)

asyncio.run(main())
print("over")
"""


def test_the_end_of_the_interpreter_waits_for_no_lookup() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "over\n", "")


@pytest.mark.parametrize("limits", [{"max_lookups": 0}, {"max_lookups_per_guest": 0}])
def test_limits_are_positive(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"ClientConfig.{next(iter(limits))} must be at least 1, not 0"):
        ClientConfig(**limits)  # type: ignore[arg-type]


def test_waiters_may_leave_while_others_are_told(loop: str, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(answers: Iterable[asyncio.Future[Any]], outcome: Any) -> None:
        telling.set()
        assert left.wait(PATIENCE)
        original(answers, outcome)

    original = lookup._tell
    telling, left = threading.Event(), threading.Event()
    monkeypatch.setattr(lookup, "_tell", lambda answers, outcome: tell(iter(answers), outcome))

    async def main() -> None:
        lookups = Lookups(4, 2)
        tasks = [asyncio.create_task(lookups.resolve("name", number)) for number in range(3)]
        await until(telling.is_set)
        await dropped(tasks.pop(1))
        left.set()
        assert await asyncio.gather(*tasks) == [["127.0.0.1"]] * 2

    run(loop, main())
