"""The guest of the canonical ABI's tests: its WIT and its core module are put together here from a table of types.

`TYPES` has every value type of WASIp2 (the named ones are declared in abi.wit). For each NAME of them

- `guest` exports `echo-NAME: func(x: T) -> T`, which hands its argument to the host's function of the same name and
  gives back what that returned;
- `images` exports `image-of-NAME: func(x: list<T>, size: u32) -> list<u8>`, the `size` bytes per element as the host
  stored them; `NAME-of-image: func(image: list<u8>, count: u32) -> list<T>`, the other way round; and
  `NAME-at: func(pointer: u32, count: u32) -> list<T>`, a list wherever the caller likes.

`SENT` are calls of the host's `echo-NAME` with core values as they are, right or wrong: `raw` exports
`send-NAME: func(…) -> T`. The rest of `raw`, `handles` and `counters` are written by hand: see abi.wit and module.wat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent

TYPES = {
    "bool": "bool",
    "u8": "u8",
    "s8": "s8",
    "u16": "u16",
    "s16": "s16",
    "u32": "u32",
    "s32": "s32",
    "u64": "u64",
    "s64": "s64",
    "f32": "f32",
    "f64": "f64",
    "char": "char",
    "string": "string",
    "list-bool": "list<bool>",
    "list-u8": "list<u8>",
    "list-s8": "list<s8>",
    "list-u16": "list<u16>",
    "list-s16": "list<s16>",
    "list-u32": "list<u32>",
    "list-s32": "list<s32>",
    "list-u64": "list<u64>",
    "list-s64": "list<s64>",
    "list-f32": "list<f32>",
    "list-f64": "list<f64>",
    "list-char": "list<char>",
    "list-string": "list<string>",
    "list-entry": "list<tuple<string, list<u8>>>",
    "list-list-u32": "list<list<u32>>",
    "list-mixed": "list<mixed>",
    "list-option-u64": "list<option<u64>>",
    "list-result": "list<result<u32, string>>",
    "list-small-enum": "list<small-enum>",
    "mixed": "mixed",
    "nested": "nested",
    "wide": "wide",
    "tuple-mixed": "tuple<u8, u32, string>",
    "tuple-sixteen": f"tuple<{', '.join(['u32'] * 16)}>",
    "tuple-seventeen": f"tuple<{', '.join(['u16'] * 17)}>",
    "choice": "choice",
    "joined": "joined",
    "small-enum": "small-enum",
    "large-enum": "large-enum",
    "option-u32": "option<u32>",
    "option-u64": "option<u64>",
    "option-string": "option<string>",
    "option-option": "option<option<u32>>",
    "option-mixed": "option<mixed>",
    "result-u32-string": "result<u32, string>",
    "result-none": "result",
    "result-ok": "result<u64>",
    "result-error": "result<_, small-enum>",
    "result-choice": "result<choice, mixed>",
    "flags1": "flags1",
    "flags3": "flags3",
    "flags8": "flags8",
    "flags9": "flags9",
    "flags16": "flags16",
    "flags17": "flags17",
    "flags32": "flags32",
}

SENT = {
    "bool": "u32",
    "u8": "u32",
    "s8": "u32",
    "u16": "u32",
    "s16": "u32",
    "char": "u32",
    "small-enum": "u32",
    "large-enum": "u32",
    "flags1": "u32",
    "flags9": "u32",
    "flags17": "u32",
    "option-u32": "u32 u32",
    "result-none": "u32",
    "result-error": "u32 u32",
    "result-u32-string": "u32 u32 u32",
    "joined": "u32 u64",
    "choice": "u32 u64 u32",
    "string": "u32 u32",
    "list-u8": "u32 u32",
    "list-u64": "u32 u32",
    "list-string": "u32 u32",
}

MANY = [
    "u8",
    "u16",
    "u32",
    "u64",
    "s8",
    "s16",
    "s32",
    "s64",
    "f32",
    "f64",
    "bool",
    "char",
    "string",
    "list<u8>",
    "option<u32>",
    "small-enum",
    "flags9",
]

ENCODINGS = {"utf8": 0, "utf16": 1, "compact-utf16": 2}


def wit() -> str:
    """The package `test:abi`, in one file."""
    named = sorted(set(re.findall(r"^  (?:record|variant|enum|flags) ([a-z0-9-]+)", _template(), re.M)))
    uses = f"  use host.{{{', '.join(_declared(named))}}};"
    echoes = [f"  echo-{name}: func(x: {type_}) -> {type_};" for name, type_ in TYPES.items()]
    parameters = ", ".join(f"p{i}: {type_}" for i, type_ in enumerate(MANY))
    echoes.append(f"  echo-many: func({parameters}) -> tuple<{', '.join(MANY)}>;")
    images = []
    for name, type_ in TYPES.items():
        images.append(f"  image-of-{name}: func(x: list<{type_}>, size: u32) -> list<u8>;")
        images.append(f"  {name}-of-image: func(image: list<u8>, count: u32) -> list<{type_}>;")
        images.append(f"  {name}-at: func(pointer: u32, count: u32) -> list<{type_}>;")
    sends = []
    for name, core in SENT.items():
        arguments = ", ".join(f"{letter}: {type_}" for letter, type_ in zip("abc", core.split(), strict=False))
        sends.append(f"  send-{name}: func({arguments}) -> {TYPES[name]};")
    enums = ", ".join(f"e{i}" for i in range(300))
    filled = _template().replace("LARGE-ENUM-CASES", enums)
    for bits in (1, 3, 8, 9, 16, 17, 32):
        filled = filled.replace(f"FLAGS-{bits};", f"flags flags{bits} {{ {', '.join(f'b{i}' for i in range(bits))} }}")
    for mark, lines in {"USES": [uses], "ECHOES": echoes, "IMAGES": images, "SENDS": sends}.items():
        filled = filled.replace(f"  //@{mark}", "\n".join(lines))
    return filled


def core(dummy: str, encoding: str) -> str:
    """The core module, as text.

    `dummy` is the module that `wasm-tools component embed --dummy-names legacy -t` makes for the world: the signatures
    come from it.
    """
    imports, functions = [], []
    for module, name, parameters, result in _imports(dummy):
        signature = f"(param {' '.join(parameters)})" if parameters else ""
        signature += f" (result {result})" if result else ""
        identifier = name.replace("[", "").replace("]", ".")
        imports.append(f'  (import "{module}" "{name}" (func ${identifier} {signature}))')
        if module == "test:abi/host" and name.startswith("echo-") and "thing" not in name:
            functions.extend(_forward(f"test:abi/guest#{name}", name, parameters, result))
            if name[5:] in SENT:
                functions.extend(_forward(f"test:abi/raw#send-{name[5:]}", name, parameters, result))
    for name in TYPES:
        functions.extend(_image(name))
    text = (HERE / "module.wat").read_text()
    text = text.replace("  ;;@IMPORTS", "\n".join(imports)).replace("  ;;@FUNCTIONS", "\n".join(functions))
    return text.replace("ENCODING", str(ENCODINGS[encoding]))


def _template() -> str:
    return (HERE / "abi.wit").read_text()


def _declared(named: list[str]) -> list[str]:
    return [*named, *(f"flags{bits}" for bits in (1, 3, 8, 9, 16, 17, 32))]


def _imports(dummy: str) -> Iterator[tuple[str, str, list[str], str]]:
    line = re.compile(
        r'\(import "([^"]+)" "([^"]+)" \(func \(;\d+;\) \(type \d+\)'
        r"(?: \(param ([a-z0-9 ]+)\))?(?: \(result (\w+)\))?\)\)"
    )
    for match in line.finditer(dummy):
        yield match[1], match[2], (match[3] or "").split(), match[4] or ""


def _forward(export: str, target: str, parameters: list[str], result: str) -> list[str]:
    """A function that calls the host's: a large result goes to the result area, whose address is returned."""
    through_memory = not result
    passed = parameters[:-1] if through_memory else parameters
    declared = f"(param {' '.join(passed)}) " if passed else ""
    arguments = " ".join(f"(local.get {i})" for i in range(len(passed)))
    if not through_memory:
        return [
            f'  (func (export "{export}") {declared}(result {result})',
            f"    (call ${target} {arguments}))",
        ]
    return [
        f'  (func (export "{export}") {declared}(result i32)',
        f"    (call ${target} {arguments} (global.get $result))",
        "    (global.get $result))",
        f'  (func (export "cabi_post_{export}") (param i32) (call $after-return (local.get 0)))',
    ]


def _image(name: str) -> list[str]:
    prefix = "test:abi/images#"
    lines = []
    for export, parameters, length in (
        (f"image-of-{name}", "i32 i32 i32", "(i32.mul (local.get 1) (local.get 2))"),
        (f"{name}-of-image", "i32 i32 i32", "(local.get 2)"),
        (f"{name}-at", "i32 i32", "(local.get 1)"),
    ):
        lines += [
            f'  (func (export "{prefix}{export}") (param {parameters}) (result i32)',
            f"    (call $give (local.get 0) {length}))",
            f'  (func (export "cabi_post_{prefix}{export}") (param i32) (call $after-return (local.get 0)))',
        ]
    return lines
