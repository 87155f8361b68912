from __future__ import annotations

import re
from pathlib import Path

import pytest

from wasi_http.component.decode.foreign import advise
from wasi_http.engine import wat_to_wasm

FOREIGN = [
    (b"\x7fELF\2\1\1\0", "", "native program"),
    (b"MZ\x90\0", ".exe", "for Windows"),
    (b"\xcf\xfa\xed\xfe\7\0\0\1", "", "for macOS"),
    (b"PK\3\4\x14\0", ".zip", "ZIP archive: unpack it"),
    (b"\x1f\x8b\x08\0", ".wasm", "gzip: unpack it"),
    (b"\x28\xb5\x2f\xfd\4", ".zst", "zstd: unpack it"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", ".wasm", "`git lfs pull`"),
    (b"#!/bin/sh\n", "", "a script"),
    (b'{"name": "app"}', ".json", "JSON"),
    (b"\n<!DOCTYPE html>\n<html>", ".wasm", "download the component"),
    (b"<?xml version='1.0'?><Error/>", ".wasm", "download the component"),
    (b"from wit_world import exports", ".py", "componentize-py"),
    (b"#!/usr/bin/env python3", ".py", "componentize-py"),
    (b"addEventListener('fetch', () => {})", ".js", "componentize-js"),
    (b"(function () {})()", ".js", "componentize-js"),
    (b"export const x = 1", ".mjs", "componentize-js"),
    (b"const x: number = 1", ".ts", "compile it to JavaScript"),
    (b"fn main() {}", ".rs", "wasm32-wasip2"),
    (b"package main", ".go", "-wit-world that exports wasi:http"),
    (b"package a:b; world w {}", ".WIT", "has no code"),
    (b"hello", "", "neither binary WebAssembly"),
    (b"\xff\xfe(\0", ".wat", "neither binary WebAssembly"),
]


@pytest.mark.parametrize(("data", "suffix", "what"), FOREIGN, ids=[f"{suffix} {what}" for _, suffix, what in FOREIGN])
def test_what_is_no_component(data: bytes, suffix: str, what: str) -> None:
    assert what in (advise(data, suffix) or "")
    assert what in (advise(memoryview(data + bytes(1 << 20)), suffix) or "")


@pytest.mark.parametrize("suffix", [".py", ".js", ".ts", ".rs"])
def test_the_readme_says_how(suffix: str) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    commands = re.findall("`(.*?)`", advise(b"x", suffix) or "")
    assert commands
    assert not [command for command in commands if command not in readme]


MAYBE = [
    b"",
    b" \n",
    b"\0asm",
    wat_to_wasm("(component)"),
    b"(component)",
    b"\n ;; a\n(component)",
    b"\xef\xbb\xbf(",
    b"(;",
]


@pytest.mark.parametrize("data", MAYBE)
def test_what_may_be_one(data: bytes) -> None:
    assert advise(data) is None
    assert advise(data, ".wat") is None
