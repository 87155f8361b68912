"""Recognizes files that are not components, and advises what to do about them."""

from __future__ import annotations

__all__ = ["advise"]

_LOOK = 1024  # bytes examined, from the beginning

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", "a native program or library, or a module that wasmtime compiled: give the component itself"),
    (b"MZ", "a program for Windows: give the component itself"),
    (b"\xcf\xfa\xed\xfe", "a program for macOS: give the component itself"),
    (b"\xca\xfe\xba\xbe", "a program for macOS, or a Java class: give the component itself"),
    (b"PK\3\4", "a ZIP archive: unpack it, and give the component in it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"\xfd7zXZ\0", "compressed with xz: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"BC\xc0\xde", "LLVM bitcode: link it for wasm32-wasip2"),
    (b"!<arch>\n", "a library of object files: link it for wasm32-wasip2"),
    (b"version https://git-lfs.github.com/", "a pointer of Git LFS: fetch the file with `git lfs pull`"),
    (b"#!", "a script, not a component"),
    (b"{", "JSON, not a component"),
)

_PAGES = (b"<!doctype", b"<html", b"<?xml")

_SUFFIXES = {
    ".py": "Python source: make a component of it with "
    "`componentize-py -d wit -w wasi:http/proxy@0.2.12 componentize app -o app.wasm`",
    ".js": "JavaScript: make a component of it with `npx componentize-js` (npm's @bytecodealliance/componentize-js)",
    ".ts": "TypeScript: compile it to JavaScript, and make a component of that with `npx componentize-js`",
    ".rs": "Rust source: build it with `cargo build --release --target wasm32-wasip2`",
    ".go": "Go source: build it with `tinygo build -target=wasip2`, with a -wit-world that exports wasi:http",
    ".c": "C source: compile it with wasi-sdk for wasm32-wasip2",
    ".wit": "a description of interfaces in WIT, which has no code: give the component that implements them",
}
_SUFFIXES |= {".mjs": _SUFFIXES[".js"], ".cjs": _SUFFIXES[".js"], ".mts": _SUFFIXES[".ts"], ".tsx": _SUFFIXES[".ts"]}
_SUFFIXES |= {".jsx": _SUFFIXES[".js"], ".cc": _SUFFIXES[".c"], ".cpp": _SUFFIXES[".c"]}


def advise(data: bytes | memoryview, suffix: str = "") -> str | None:
    """Returns what data is and what to do about it; None for WebAssembly, binary or text, and for empty data.

    ``suffix`` is that of the file name, with its dot. Only the beginning of the data is examined.
    """
    head = bytes(data[:_LOOK])
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text or head.startswith(b"\0asm"):
        return None
    what = _SUFFIXES.get(suffix.lower())
    if what is None:
        what = next((what for beginning, what in _BEGINNINGS if head.startswith(beginning)), None)
    if what is None and text.startswith((b"(", b";;")):
        return None
    if what is None and text.lower().startswith(_PAGES):
        what = "a page in HTML or XML, as servers send in place of a file: download the component itself"
    if what is not None:
        return f"this is {what}"
    return "this is neither binary WebAssembly, which begins with '\\0asm', nor text, which begins with '('"
