"""What it costs to load, link and instantiate a component grows with its size, whatever is in it, or it is refused.

Not here: what wasmtime takes to validate and to compile core modules.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.component.encode import component, item, module, name, nested, part, s33, section, u32, vector
from wasi_http.component import Component, InvalidComponent, Linker, LinkError, ResourceTable
from wasi_http.engine import Engine, EngineConfig, Store, Trap
from wasi_http.http.linking import add_to_linker_async
from wasi_http.wasi.context import WasiCtx

MODULE, CORE_INSTANCE, CORE_TYPE, INSTANCE, ALIAS, TYPE, CANON, IMPORT, EXPORT = 1, 2, 3, 5, 6, 7, 8, 10, 11

RESOURCE = b"\x3f\x7f\0"
SUB_RESOURCE = b"\3\1"
FUNC = b"\x40\0\1\0"
BOOL = b"\x7f"
# Of a core module: one type, () -> (), one function of it, exported as "f".
CORE_FUNC = section(1, [b"\x60\0\0"]) + section(3, [b"\0"]) + section(7, [name("f") + b"\0\0"])
CORE_FUNC += section(10, [b"\2\0\x0b"])

OK = "instantiated"
COMPLEX = "the types are too complex"
WORK = "linking the component takes too much work"


def functions(count: int) -> bytes:
    """An instance type with so many functions."""
    exports = [b"\4" + item(f"f{i}", b"\1\0") for i in range(count)]
    return b"\x42" + vector([b"\1" + FUNC, *exports])


def core_functions(count: int, kind: bytes) -> bytes:
    """A core module type with so many imports (``kind`` 0, from "a") or exports (3)."""
    place = b"" if kind == b"\3" else name("a")
    return b"\x50" + vector([b"\1\x60\0\0", *(kind + place + name(f"f{i}") + b"\0\0" for i in range(count))])


def imported_resources(n: int) -> bytes:
    return component(section(IMPORT, [item(f"r{i}", SUB_RESOURCE) for i in range(n)]))


def exported_resources(n: int) -> bytes:
    exports = [item(f"r{i}", b"\3" + u32(i) + b"\0") for i in range(n)]
    return component(section(TYPE, [RESOURCE] * n), section(EXPORT, exports))


def exports_beside_imported_resources(n: int) -> bytes:
    exports = [item(f"e{i}", b"\3\0\0") for i in range(n)]
    return component(section(IMPORT, [item(f"r{i}", SUB_RESOURCE) for i in range(n)]), section(EXPORT, exports))


def imports_beside_exported_resources(n: int) -> bytes:
    exports = [b"\4" + item(f"e{i}", SUB_RESOURCE) for i in range(n)]
    imports = [b"\3" + item(f"i{i}", SUB_RESOURCE) for i in range(n)]
    return component(section(TYPE, [b"\x41" + vector([*exports, *imports])]))


def instances_with_resources(n: int) -> bytes:
    return component(nested(section(TYPE, [RESOURCE] * n)), section(INSTANCE, [b"\0\0\0"] * n))


def instances_of_an_imported_module(n: int) -> bytes:
    imports = section(IMPORT, [item("m", b"\0\x11\0")])
    instances = section(CORE_INSTANCE, [b"\0\0\0"] * n)
    return component(section(CORE_TYPE, [core_functions(n, b"\3")]), imports, instances)


def arguments_of_an_imported_module(n: int) -> bytes:
    types = section(CORE_TYPE, [core_functions(n, b"\3"), core_functions(n, b"\0")])
    imports = section(IMPORT, [item("m", b"\0\x11\0"), item("n", b"\0\x11\1")])
    instances = [b"\0\0\0", *[b"\0\1" + vector([name("a") + b"\x12\0"])] * n]
    return component(types, imports, section(CORE_INSTANCE, instances))


def imports_of_one_type(n: int) -> bytes:
    return component(section(TYPE, [functions(n)]), section(IMPORT, [item(f"i{i}", b"\5\0") for i in range(n)]))


def many_imports(n: int) -> bytes:
    imports = [item(f"wasi:http/types@0.2.{i}", b"\5\0") for i in range(n)]
    return component(section(TYPE, [functions(1)]), section(IMPORT, imports))


def imports_of_a_huge_type(n: int) -> bytes:
    types = [b"\x6f" + vector([BOOL] * 90), *(b"\x6f" + vector([s33(i), s33(i)]) for i in range(10))]
    function = b"\x40\0\0" + s33(10)
    declarations = [b"\1" + type_ for type_ in [*types, function]] + [b"\4" + item("get-random-u64", b"\1\x0b")]
    imports = [item(f"wasi:random/random@0.2.{i}", b"\5\0") for i in range(n)]
    return component(section(TYPE, [b"\x42" + vector(declarations)]), section(IMPORT, imports))


def exports_in_instances(n: int) -> bytes:
    inline = b"\1" + vector(item(f"t{i}", b"\3\0") for i in range(n))
    inner = nested(section(TYPE, [FUNC]), section(INSTANCE, [inline]))
    return component(inner, section(INSTANCE, [b"\0\0\0"] * n))


def arguments_in_instances(n: int) -> bytes:
    inside = b"\0\0" + vector(name(f"a{i}") + b"\3\0" for i in range(n))
    inner = nested(section(TYPE, [FUNC]), nested(), section(INSTANCE, [inside]))
    return component(inner, section(INSTANCE, [b"\0\0\0"] * n))


def arguments_of_one_type(n: int) -> bytes:
    inner = nested(section(TYPE, [functions(n)]), section(IMPORT, [item("a", b"\5\0")]))
    outer = section(TYPE, [functions(n)]), section(IMPORT, [item("a", b"\5\0")])
    return component(*outer, inner, section(INSTANCE, [b"\0\0" + vector([name("a") + b"\5\0"])] * n))


def chain(n: int, instances: int = 1) -> bytes:
    """Components that each make instances of the one before."""
    alias = [section(ALIAS, [b"\4\2\1" + u32(i)]) for i in range(n)]
    links = [nested(outer, section(INSTANCE, [b"\0\0\0"] * instances)) for outer in alias]
    return component(nested(), *links, section(INSTANCE, [b"\0" + u32(n) + b"\0"]))


def tree(n: int) -> bytes:
    return chain(n, 2)


def tuples_of_tuples(n: int) -> bytes:
    types = [b"\x6f" + vector([BOOL] * 2), *(b"\x6f" + vector([s33(i), s33(i)]) for i in range(n))]
    return component(section(TYPE, types))


def deep_type(n: int) -> bytes:
    return component(section(TYPE, [b"\x70" + BOOL, *(b"\x70" + s33(i) for i in range(n))]))


def deep_result(n: int) -> bytes:
    """Functions whose result is a deeply nested type with many parts."""
    types = [b"\x6f" + vector([BOOL] * 8000), *(b"\x6f" + vector([s33(i)]) for i in range(95))]
    code = section(10, [b"\4\0\x41\0\x0b"])
    exports = section(7, [name("f") + b"\0\0", name("m") + b"\2\0"])
    core = module(section(1, [b"\x60\0\1\x7f"]), section(3, [b"\0"]), section(5, [b"\0\1"]), exports, code)
    aliases = section(ALIAS, [b"\0\0\1\0" + name("f"), b"\0\2\1\0" + name("m")])
    lifts = section(CANON, [b"\0\0\0" + vector([b"\3\0"]) + u32(96)] * n)
    types.append(b"\x40\0\0" + s33(95))
    return component(core, section(CORE_INSTANCE, [b"\0\0\0"]), aliases, section(TYPE, types), lifts)


def nested_components(n: int) -> bytes:
    binary = component()
    for _ in range(n):
        binary = component(part(4, binary))
    return binary


def nested_types(n: int) -> bytes:
    type_ = b"\x42\0"
    for _ in range(n):
        type_ = b"\x42" + vector([b"\1" + type_])
    return component(section(TYPE, [type_]))


def modules(n: int) -> bytes:
    return component(*[module()] * n)


def components(n: int) -> bytes:
    return component(*[nested()] * n)


def custom_sections(n: int) -> bytes:
    return component(*[part(0, name("x"))] * n, module(*[part(0, name("x"))] * n), section(CORE_INSTANCE, [b"\0\0\0"]))


def instances_of_a_module(n: int) -> bytes:
    return component(module(), section(CORE_INSTANCE, [b"\0\0\0"] * n))


def aliases(n: int) -> bytes:
    alias = section(ALIAS, [b"\0\0\1\0" + name("f")] * n)
    return component(module(CORE_FUNC), section(CORE_INSTANCE, [b"\0\0\0"]), alias)


def lifted_functions(n: int) -> bytes:
    lifts = section(TYPE, [FUNC]), section(CANON, [b"\0\0\0\0\0"] * n)
    exports = section(EXPORT, [item(f"e{i}", b"\1" + u32(i) + b"\0") for i in range(n)])
    alias = section(ALIAS, [b"\0\0\1\0" + name("f")])
    return component(module(CORE_FUNC), section(CORE_INSTANCE, [b"\0\0\0"]), alias, *lifts, exports)


def exports_of_an_imported_instance(n: int) -> bytes:
    exports = section(EXPORT, [item(f"e{i}", b"\5\0\0") for i in range(n)])
    return component(section(TYPE, [functions(n)]), section(IMPORT, [item("a", b"\5\0")]), exports)


def exports_of_an_instance(n: int) -> bytes:
    lift = section(TYPE, [FUNC]), section(CANON, [b"\0\0\0\0\0"])
    instance = section(INSTANCE, [b"\1" + vector(item(f"f{i}", b"\1\0") for i in range(n))])
    exports = section(EXPORT, [item(f"e{i}", b"\5\0\0") for i in range(n)])
    alias = section(ALIAS, [b"\0\0\1\0" + name("f")])
    return component(module(CORE_FUNC), section(CORE_INSTANCE, [b"\0\0\0"]), alias, *lift, instance, exports)


def exports_of_a_function_with_a_large_type(n: int) -> bytes:
    """A variant of two of a variant of two of ..., which is flattened to one number."""
    cases = [vector(name(f"c{case}") + b"\1" + s33(i) + b"\0" for case in range(2)) for i in range(10)]
    types = [b"\x6d" + vector([name("a")]), *(b"\x71" + both for both in cases)]
    types.append(b"\x40" + vector([name("x") + s33(10)]) + b"\1\0")
    core = (
        section(1, [b"\x60" + b"\x0b" + b"\x7f" * 11 + b"\0"]) + section(3, [b"\0"]) + section(7, [name("f") + b"\0\0"])
    )
    alias = section(ALIAS, [b"\0\0\1\0" + name("f")])
    lift = section(TYPE, types), section(CANON, [b"\0\0\0\0" + u32(len(types) - 1)])
    exports = section(EXPORT, [item(f"e{i}", b"\1\0\0") for i in range(n)])
    code = section(10, [b"\2\0\x0b"])
    return component(module(core + code), section(CORE_INSTANCE, [b"\0\0\0"]), alias, *lift, exports)


def core_instances_beside_host_functions(n: int) -> bytes:
    declarations = [b"\1\x40\0\0\x77", b"\4" + item("get-random-u64", b"\1\0")]
    random = section(IMPORT, [item("wasi:random/random@0.2.0", b"\5\0")])
    lowered = section(ALIAS, [b"\1\0\0" + name("get-random-u64")]), section(CANON, [b"\1\0\0\0"] * n)
    bag = section(CORE_INSTANCE, [b"\1" + vector(name(f"f{i}") + b"\0" + u32(i) for i in range(n))])
    wanted = [name("a") + name(f"f{i}") + b"\0\0" for i in range(n)]
    user = module(section(1, [b"\x60\0\1\x7e"]), section(2, wanted))
    instances = [b"\0\0" + vector([name("a") + b"\x12\0"]), *[b"\0\1\0"] * n]
    return component(
        section(TYPE, [b"\x42" + vector(declarations)]),
        random,
        *lowered,
        bag,
        user,
        module(),
        section(CORE_INSTANCE, instances),
    )


def resources(n: int) -> bytes:
    return component(section(TYPE, [RESOURCE] * n))


def wide_core_types(n: int) -> bytes:
    """Imports of a function with many parameters, which are compared."""
    values = vector([BOOL] * n)
    type_ = section(1, [b"\x60" + values + b"\0"])
    exporter = type_ + section(3, [b"\0"]) + section(7, [name("f") + b"\0\0"]) + section(10, [b"\2\0\x0b"])
    importer = type_ + section(2, [name("a") + name("f") + b"\0\0"] * n)
    instances = [b"\0\0\0", b"\0\1" + vector([name("a") + b"\x12\0"])]
    return component(module(exporter), module(importer), section(CORE_INSTANCE, instances))


def long_core_names(n: int) -> bytes:
    """Imports of one module whose name is long, in many instances of it."""
    long = "x" * 90_000
    exporter = section(1, [b"\x60\0\0"]) + section(3, [b"\0"]) + section(7, [name(long) + b"\0\0"])
    importer = section(1, [b"\x60\0\0"]) + section(2, [name("a") + name(long) + b"\0\0"])
    instances = [b"\0\0\0", *[b"\0\1" + vector([name("a") + b"\x12\0"])] * n]
    code = section(10, [b"\2\0\x0b"])
    return component(module(exporter + code), module(importer), section(CORE_INSTANCE, instances))


@dataclass
class View:
    table: ResourceTable = field(default_factory=ResourceTable)
    ctx: WasiCtx = field(default_factory=WasiCtx)


@pytest.fixture(scope="module")
def linker() -> Linker:
    linker = Linker(Engine(EngineConfig(max_instances=4, cache=False)))
    add_to_linker_async(linker)
    return linker


def end(linker: Linker, binary: bytes) -> tuple[float, str]:
    """The processor time that it takes to load, link and instantiate, and how that ends."""
    started = time.process_time()
    try:
        pre = linker.instantiate_pre(Component(linker.engine, binary))
        store = Store(linker.engine, View())
        try:
            pre.instantiate(store)
        finally:
            store.close()
        how = OK
    except (InvalidComponent, LinkError, Trap) as error:
        how = str(error)
    return time.process_time() - started, how


# What is in the component, how often, and how four times of it end.
CASES: list[tuple[Callable[[int], bytes], int, str]] = [
    (imported_resources, 5000, r"… and 19,951 more"),
    (exported_resources, 2000, OK),
    (exports_beside_imported_resources, 5000, r"… and 19,951 more"),
    (imports_beside_exported_resources, 2500, OK),
    (instances_with_resources, 500, COMPLEX),
    (instances_of_an_imported_module, 500, COMPLEX),
    (arguments_of_an_imported_module, 300, COMPLEX),
    (imports_of_one_type, 300, COMPLEX),
    (many_imports, 5000, r"… and 19,951 more"),
    (imports_of_a_huge_type, 8, COMPLEX),
    (exports_in_instances, 400, WORK),
    (arguments_in_instances, 400, WORK),
    (arguments_of_one_type, 400, COMPLEX),
    (chain, 80, r"instances make instances more than 100 levels deep"),
    (tree, 10, WORK),
    (tuples_of_tuples, 12, r"a type has more than 100000 parts"),
    (deep_type, 90, r"a type is nested more than 100 levels deep"),
    (deep_result, 25, OK),
    (nested_components, 35, r"components and types are nested more than 40 deep"),
    (nested_types, 35, r"components and types are nested more than 40 deep"),
    (modules, 900, r"more than 1000 core modules and components"),
    (components, 900, r"more than 1000 core modules and components"),
    (custom_sections, 50_000, OK),
    (instances_of_a_module, 5000, r"instance count too high"),
    (aliases, 10_000, OK),
    (lifted_functions, 5000, OK),
    (exports_of_an_imported_instance, 400, WORK),
    (exports_of_an_instance, 400, WORK),
    (exports_of_a_function_with_a_large_type, 5000, OK),
    (core_instances_beside_host_functions, 3000, r"instance count too high"),
    (resources, 9000, r"36000 functions, .* more than 10000"),
    (wide_core_types, 5000, r"function params size is out of bounds"),
    (long_core_names, 5000, r"instance count too high"),
]


@pytest.mark.parametrize(("make", "count", "expected"), CASES, ids=[make.__name__ for make, _, _ in CASES])
def test_cost_grows_with_size(linker: Linker, make: Callable[[int], bytes], count: int, expected: str) -> None:
    once, _ = end(linker, make(count))
    four_times, how = end(linker, make(4 * count))
    assert re.search(expected, how)
    assert len(how) < 20_000
    # Linear is 4, quadratic 16; what takes next to nothing has no factor.
    assert four_times < 10 * max(once, 0.05)
    assert max(once, four_times) < 5
