"""The interfaces as a guest meets them: through the canonical ABI, on a fiber, with handles."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from wasi_http.component.link.component import Component
from wasi_http.component.link.linker import InstancePre, Linker
from wasi_http.component.model.values import Err, Ok
from wasi_http.engine import Engine, Store, Trap
from wasi_http.wasi import Exit, add_to_linker
from wasi_http.wasi.cli import Run

from .view import View

IMPORTS = """
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $io-error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (export "error" (type $error (eq $io-error)))
    (export "pollable" (type $pollable' (eq $pollable)))
    (type $cases (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $cases)))
    (export "[method]output-stream.subscribe" (func
      (param "self" (borrow $output-stream)) (result (own $pollable'))))
    (export "[method]output-stream.write-zeroes" (func
      (param "self" (borrow $output-stream)) (param "len" u64) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (export "output-stream" (type $output-stream' (eq $output-stream)))
    (export "get-stdout" (func (result (own $output-stream'))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (export "pollable" (type $pollable' (eq $pollable)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable'))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
"""

LOWERED = {
    "ready": ("poll", "[method]pollable.ready", "(param i32) (result i32)"),
    "block": ("poll", "[method]pollable.block", "(param i32)"),
    "poll": ("poll", "poll", "(param i32 i32 i32)"),
    "subscribe": ("streams", "[method]output-stream.subscribe", "(param i32) (result i32)"),
    "write-zeroes": ("streams", "[method]output-stream.write-zeroes", "(param i32 i64 i32)"),
    "write": ("streams", "[method]output-stream.blocking-write-and-flush", "(param i32 i32 i32 i32)"),
    "get-stdout": ("stdout", "get-stdout", "(result i32)"),
    "exit": ("exit", "exit", "(param i32)"),
    "sleep": ("clock", "subscribe-duration", "(param i64) (result i32)"),
    "random": ("random", "get-random-bytes", "(param i64 i32)"),
}


def component(code: str) -> str:
    """A component with ``wasi:cli/run`` whose core function does ``code``, which leaves 0 for ok or 1 for an error."""
    canon = "\n".join(
        f'(core func ${name} (canon lower (func ${instance} "{function}") (memory $memory) (realloc $realloc)))'
        for name, (instance, function, _) in LOWERED.items()
    )
    given = " ".join(f'(export "{name}" (func ${name}))' for name in [*LOWERED, "drop-pollable", "drop-stream"])
    taken = "\n".join(f'(import "host" "{name}" (func ${name} {type_}))' for name, (_, _, type_) in LOWERED.items())
    return f"""(component
      {IMPORTS}
      (core module $libc
        (memory (export "memory") 4)
        (data (i32.const 16) "hello from the guest\\n")
        (global $next (mut i32) (i32.const 65536))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          (global.get $next)
          (global.set $next (i32.add (global.get $next) (local.get 3)))))
      (core instance $libc (instantiate $libc))
      (alias core export $libc "memory" (core memory $memory))
      (alias core export $libc "realloc" (core func $realloc))
      {canon}
      (core func $drop-pollable (canon resource.drop $pollable))
      (core func $drop-stream (canon resource.drop $output-stream))
      (core module $main
        (import "libc" "memory" (memory 1))
        {taken}
        (import "host" "drop-pollable" (func $drop-pollable (param i32)))
        (import "host" "drop-stream" (func $drop-stream (param i32)))
        (func (export "run") (result i32) (local $stream i32) (local $pollable i32) (local $i i32)
          {code}))
      (core instance $main (instantiate $main
        (with "libc" (instance $libc)) (with "host" (instance {given}))))
      (func $run (result (result)) (canon lift (core func $main "run")))
      (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"""


async def run(engine: Engine, code: str, **arguments: Any) -> View:
    linker = Linker(engine)
    add_to_linker(linker)
    linked = InstancePre(linker, Component(engine, component(code)))
    view = View(**arguments)
    with_run = linked.export(Run)["run"]
    store = Store(engine, view)
    try:
        await linked.instantiate_async(store)
        assert await with_run(store) in (None, Ok())
    finally:
        store.close()
        view.table.close()
    assert len(view.table) == 0
    return view


PRINT = """
  (local.set $stream (call $get-stdout))
  (call $write (local.get $stream) (i32.const 16) (i32.const 21) (i32.const 1024))
  (i32.load8_u (i32.const 1024))
  (call $drop-stream (local.get $stream))
"""


def test_a_guest_prints(engine: Engine, no_leaks: None) -> None:
    pieces: list[bytes] = []
    asyncio.run(run(engine, PRINT, stdout=pieces.append))
    assert pieces == [b"hello from the guest\n"]


def test_a_guest_that_leaves_its_handles_behind(engine: Engine, no_leaks: None) -> None:
    code = "(drop (call $subscribe (call $get-stdout))) (drop (call $sleep (i64.const -1))) (i32.const 0)"
    asyncio.run(run(engine, code))


def test_a_stream_outlives_its_pollables(engine: Engine, no_leaks: None) -> None:
    code = """
      (local.set $stream (call $get-stdout))
      (local.set $pollable (call $subscribe (local.get $stream)))
      {}
      (call $drop-stream (local.get $stream))
      (i32.const 0)
    """
    asyncio.run(run(engine, code.format("(call $drop-pollable (local.get $pollable))")))
    with pytest.raises(Trap, match="has children"):
        asyncio.run(run(engine, code.format("")))


@pytest.mark.parametrize(
    "code",
    [
        "(call $poll (i32.const 0) (i32.const 0) (i32.const 1024))",
        "(call $write-zeroes (call $get-stdout) (i64.const -1) (i32.const 1024))",
        "(call $write (call $get-stdout) (i32.const 0) (i32.const 4097) (i32.const 1024))",
        "(call $random (i64.const -1) (i32.const 1024))",
        "(call $block (i32.const 77))",
        # a million pollables: the same one again and again
        """(local.set $pollable (call $sleep (i64.const -1)))
           (drop (memory.grow (i32.const 80)))
           (loop $next
             (i32.store (i32.add (i32.const 262144) (i32.shl (local.get $i) (i32.const 2))) (local.get $pollable))
             (local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $next (i32.lt_u (local.get $i) (i32.const 1000000))))
           (call $poll (i32.const 262144) (i32.const 1000000) (i32.const 1024))""",
    ],
)
def test_what_traps(engine: Engine, no_leaks: None, code: str) -> None:
    with pytest.raises(Trap):
        asyncio.run(run(engine, code + " (i32.const 0)"))


def test_exit(engine: Engine, no_leaks: None) -> None:
    with pytest.raises(Exit) as caught:
        asyncio.run(run(engine, "(call $exit (i32.const 1)) (i32.const 0)"))
    assert caught.value.code == 1


SLEEP = """
  (i32.store (i32.const 256) (call $sleep (i64.const -1)))
  (i32.store (i32.const 260) (call $sleep (i64.const 20000000)))
  (call $poll (i32.const 256) (i32.const 2) (i32.const 1024))
  ;; one is ready, and it is the second
  (i32.or
    (i32.ne (i32.load (i32.const 1028)) (i32.const 1))
    (i32.ne (i32.load (i32.load (i32.const 1024))) (i32.const 1)))
"""


def test_the_result_of_a_guest_is_seen(engine: Engine, no_leaks: None) -> None:
    with pytest.raises(Err):
        asyncio.run(run(engine, "(i32.const 1)"))


def test_guests_sleep_at_the_same_time(engine: Engine, no_leaks: None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(*[run(engine, SLEEP) for _ in range(20)])
        assert loop.time() - start >= 0.02

    asyncio.run(main())


def test_a_guest_is_cancelled_while_it_sleeps(engine: Engine, no_leaks: None) -> None:
    async def main() -> None:
        code = "(call $block (call $sleep (i64.const -1))) (i32.const 0)"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run(engine, code), 0.05)

    asyncio.run(main())
