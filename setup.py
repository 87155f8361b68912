"""Only what pyproject.toml cannot say: which modules are compiled, and how."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILED = [
    "engine.library",
    "engine.clock",
    "engine.engine",
    "engine.module",
    "engine.owners",
    "engine.turns",
    "engine.store",
    "engine.memory",
    "engine.traps",
    "engine.func",
    "engine.host",
    "engine.fiber",
    "engine.wiring",
    "engine.assembly",
    "engine.binary.reader",
    "engine.binary.writer",
    "engine.binary.opcodes",
    "engine.binary.module",
    "engine.binary.fuse",
    "engine.binary.bulk",
    "component.handles",
    "component.abi.context",
    "component.abi.codec",
    "component.abi.numbers",
    "component.abi.text",
    "component.abi.lists",
    "component.abi.aggregates",
    "component.abi.handles",
    "component.abi.signature",
    "component.instance",
    "component.canon.instances",
    "component.canon.lower",
    "component.canon.lift",
    "component.canon.resources",
    "flow.signal",
    "flow.pipe",
    "http1.chunked",
    "http1.fieldsection",
]

# One module alone while working on it: WASI_HTTP_COMPILE="component.abi.signature" python setup.py build_ext --inplace
chosen = os.environ.get("WASI_HTTP_COMPILE", " ".join(COMPILED)).split()

extensions = [
    Extension(
        f"wasi_http.{name}",
        [f"src/wasi_http/{name.replace('.', '/')}.py"],
        include_dirs=["src/wasi_http/engine"],
        depends=["src/wasi_http/engine/libwasmtime.h", "src/wasi_http/engine/stack.h"],
        extra_compile_args=["-O2", "-g0", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-unused-variable"],
    )
    for name in chosen
]

setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        extensions,
        include_path=["src"],
        compiler_directives={
            "language_level": "3",
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "embedsignature": False,
            "always_allow_keywords": True,
        },
    ),
)
