from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import pytest

from wasi_http.engine import (
    Assembly,
    Engine,
    EngineConfig,
    InvalidModule,
    Module,
    Store,
    Trap,
    library,
    wat_to_wasm,
)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_instances", 0),
        ("max_instances", 1 << 30),
        ("core_instances_per_instance", 1 << 32),
        ("time_slice", 0.0),
        ("async_stack_size", 1),
        ("max_memory_size", 5 << 30),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        EngineConfig(**{setting: value})  # type: ignore[arg-type]


def test_where_address_space_is_short_instances_are_allocated_on_demand() -> None:
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "from wasi_http.engine import *\n"
        "engine = Engine()\n"
        "assert not engine.pooling and not engine.guarded and 'on demand' in repr(engine)\n"
        "memory = '(module (memory 1) (func (export \"f\") (result i32)'\n"
        "text = memory + ' (drop (memory.grow (i32.const 999))) (i32.load (i32.const 65535996))))'\n"
        "outside = memory + ' (i32.load (i32.const 65533))))'\n"
        "kind = CoreType((), ('i32',))\n"
        "stores = []\n"
        "for wat in [text] * 50 + [outside]:\n"
        "    module = Module.compile(engine, wat_to_wasm(wat))\n"
        "    stores.append(Store(engine))\n"
        "    Assembly(engine, [], [(module, [])], [(0, 0)]).instantiate(stores[-1])\n"
        "    fiber = Fiber.of(stores[-1], 0, kind)\n"
        "    try:\n"
        "        print(fiber.poll(), fiber.result)\n"
        "    except Trap as trap:\n"
        "        print(trap.message.split()[-5:])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "True 0\n" * 50 + "['out', 'of', 'bounds', 'memory', 'access']\n", result.stderr
    assert result.stderr.startswith("the pool of 1000 instances needs ")
    assert result.stderr.count("\n") == 1


# What the pool is too small for, and what is said about it when a module is compiled.
TOO_LARGE: list[tuple[dict[str, int], str, str]] = [
    ({"max_memory_size": 1 << 20}, "(module (memory 17))", "exceeds the limit of 0x100000 bytes"),
    ({"table_elements": 100}, "(module (table 101 funcref))", "exceeds the limit of 100"),
    ({"memories_per_instance": 1}, "(module (memory 1) (memory 1))", "exceeds the per-instance limit of 1"),
    ({"tables_per_instance": 1}, "(module (table 1 funcref) (table 1 funcref))", "exceeds the per-instance limit of 1"),
]


@pytest.mark.parametrize(("settings", "text", "said"), TOO_LARGE)
def test_modules_that_the_pool_has_no_room_for(settings: dict[str, int], text: str, said: str) -> None:
    engine = Engine(EngineConfig(max_instances=1, cache=False, **settings))  # type: ignore[arg-type]
    assert engine.pooling
    with pytest.raises(InvalidModule, match=said):
        Module.compile(engine, wat_to_wasm(text))


@pytest.mark.parametrize(("instances", "each", "fit"), [(1, 1, 1), (2, 1, 2), (1, 3, 3)])
def test_instances_beyond_the_pool_trap(instances: int, each: int, fit: int) -> None:
    engine = Engine(EngineConfig(max_instances=instances, core_instances_per_instance=each, cache=False))
    assembly = Assembly(engine, [], [(Module.compile(engine, wat_to_wasm("(module)")), [])], [])
    stores = [Store(engine) for _ in range(fit + 1)]
    for store in stores[:fit]:
        assembly.instantiate(store)
    with pytest.raises(Trap, match=f"maximum concurrent limit of {fit} for core instances reached"):
        assembly.instantiate(stores[fit])
    stores[0].close()
    with closing(Store(engine)) as again:
        assembly.instantiate(again)
    for store in stores:
        store.close()


def test_engines_come_and_go() -> None:
    for _ in range(20):
        assert Engine(EngineConfig(max_instances=2)).pooling


def test_an_untested_release_of_wasmtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "TESTED", frozenset({"1.0.0"}))
    with pytest.raises(library.UnsupportedWasmtime, match=r"tested with 1\.0\.0 only"):
        library.library_path()
