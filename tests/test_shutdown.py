"""The end of the interpreter, with whatever is left in whichever place: silent, and never a crash."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import asyncio, builtins, sys, threading, time
from wasi_http.client import OutgoingRequestConfig
from wasi_http.http.message import Request
from wasi_http.http.send import Client
from wasi_http.component import ResourceTable
from wasi_http.component.handles import HandleTable
from wasi_http.component.model.types import ResourceType
from wasi_http.engine import Assembly, CoreFunc, CoreType, EngineConfig, Fiber, Module, Store, wat_to_wasm
from wasi_http.engine import Engine as AnyEngine
from wasi_http.wasi.io.outputs import NullOutput

GUEST = '''(module
  (import "host" "call" (func $call (param i32) (result i32)))
  (func (export "run") (param i32) (result i32) (call $call (local.get 0)))
  (func (export "spin") (param i32) (result i32) (loop $again (br $again)) unreachable)
  (func (export "ask") (param i32) (result i32)
    (loop $again (drop (call $call (local.get 0))) (br $again)) unreachable))'''
def Engine():
    return AnyEngine(EngineConfig(max_instances=10))

NUMBER = CoreType(("i32",), ("i32",))

class Guest:
    def __init__(self, engine, function):
        module = Module.compile(engine, wat_to_wasm(GUEST))
        self.assembly = Assembly(
            engine, [CoreFunc("call", NUMBER, function)], [(module, [0])], [(0, 0), (0, 1), (0, 2)]
        )
        self.engine = engine

    def start(self, name):
        store = Store(self.engine, self)
        self.assembly.instantiate(store)
        return Fiber.of(store, ["run", "spin", "ask"].index(name), NUMBER, 1)

async def forever(*_):
    await asyncio.get_running_loop().create_future()

def pending(*_):
    return asyncio.Future(loop=asyncio.new_event_loop())
"""

#: What a process does; whatever it keeps is bound to ``kept``.
SCENES = {
    "engine": "kept = Engine()",
    "two engines": "kept = Engine(), Engine()",
    "store": "kept = Store(Engine(), object())",
    "call that is done": "kept = Guest(Engine(), lambda store, n: n).start('run'); kept.poll()",
    "call that has not begun": "kept = Guest(Engine(), lambda store, n: n).start('run')",
    "call that waits": "kept = Guest(Engine(), pending).start('run'); assert not kept.poll()",
    "call whose time slice is over": "kept = Guest(Engine(), None).start('spin'); assert not kept.poll()",
    "store of a call that waits": """
        call = Guest(Engine(), pending).start('run')
        assert not call.poll()
        kept = call.store
        del call""",
    "coroutine that drives": """
        call = Guest(Engine(), forever).start('run')
        async def main():
            coroutine = call.drive()
            future = coroutine.send(None)
            return coroutine
        kept = asyncio.run(main()), call""",
    "task that was cancelled": """
        async def main():
            call = Guest(Engine(), forever).start('run')
            task = asyncio.ensure_future(call.drive())
            await asyncio.sleep(0.01)
            return task, call
        kept = asyncio.run(main())""",
    "handles": """
        account = ResourceTable()
        table = HandleTable(account)
        output = NullOutput()
        for resource in (output, output.subscribe()):
            table.add(ResourceType('any', NullOutput), resource)
        kept = account, table, Store(Engine(), table)""",
    "client with an idle connection": """
        async def answer(reader, writer):
            await reader.readuntil(b"\\r\\n\\r\\n")
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        async def main(client):
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            request = Request("GET", f"http://{host}:{port}/")
            response = await client.send_request(request, OutgoingRequestConfig())
            assert response.status == 200
            return server, response
        loop = asyncio.new_event_loop()
        client = Client()
        kept = client, loop, loop.run_until_complete(main(client))
        del client, loop""",
    "thread whose guest waits": """
        def run():
            asyncio.run(Guest(Engine(), forever).start('run').drive())
        kept = threading.Thread(target=run, daemon=True)
        kept.start()
        time.sleep(0.2)""",
    "thread whose guest spins": """
        def run():
            asyncio.run(Guest(Engine(), forever).start('spin').drive())
        kept = threading.Thread(target=run, daemon=True)
        kept.start()
        time.sleep(0.2)""",
    "thread whose guest calls the host": """
        def run():
            asyncio.run(Guest(Engine(), lambda store, n: n).start('ask').drive())
        kept = threading.Thread(target=run, daemon=True)
        kept.start()
        time.sleep(0.2)""",
    "call that another thread began": """
        def run():
            global kept
            kept = Guest(Engine(), pending).start('run')
            kept.poll()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()""",
}

# What modules hold goes while they lose their globals, and the rest after that.
OUTLIVES = "cycle = [kept]; cycle.append(cycle); builtins.cycle = cycle; del kept, cycle"


def end(program: str) -> tuple[int, str]:
    """The exit code of a process, and what it says."""
    done = subprocess.run([sys.executable, "-c", PREAMBLE + program], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_what_outlives_the_modules(scene: str) -> None:
    assert end("\n".join((textwrap.dedent(scene), OUTLIVES))) == (0, "")


def test_what_the_main_module_holds() -> None:
    scenes = [f"{textwrap.dedent(scene)}\nkept{number} = kept" for number, scene in enumerate(SCENES.values())]
    assert end("\n".join(scenes)) == (0, "")
