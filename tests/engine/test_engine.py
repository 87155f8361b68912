from __future__ import annotations

import subprocess
import sys

import pytest

from wasi_http.engine import Engine, EngineConfig, library


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
        "assert not engine.pooling and 'on demand' in repr(engine)\n"
        "Module.compile(engine, wat_to_wasm('(module)'))\n"
        "print('served')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.returncode) == ("served\n", 0), result.stderr


def test_engines_come_and_go() -> None:
    for _ in range(20):
        assert Engine(EngineConfig(max_instances=2)).pooling


def test_an_untested_release_of_wasmtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "TESTED", frozenset({"1.0.0"}))
    with pytest.raises(library.UnsupportedWasmtime, match=r"tested with 1\.0\.0 only"):
        library.library_path()
