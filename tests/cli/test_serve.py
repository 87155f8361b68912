"""The command line: what it makes of its options, and what it says when it cannot serve."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import wasi_http
from tests.server.processes import COMMAND
from wasi_http.cli.commands import commands
from wasi_http.cli.serve import serve
from wasi_http.client.proxies import Proxy
from wasi_http.engine import EngineConfig, wat_to_wasm
from wasi_http.http.egress import Egress
from wasi_http.server import process
from wasi_http.server.process import Setup

HELLO = Path(__file__).parents[2] / "examples" / "hello.wat"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["serve", *map(str, arguments)])


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.fixture
def setups(monkeypatch: pytest.MonkeyPatch) -> list[Setup]:
    """What would have been served."""
    found: list[Setup] = []
    monkeypatch.setattr(process, "run", lambda setup, progress: found.append(setup))
    return found


def test_defaults(setups: list[Setup]) -> None:
    assert invoke("app.wasm").exit_code == 0
    (setup,) = setups
    assert (setup.path, setup.address, setup.workers, setup.engine.cache) == ("app.wasm", ("127.0.0.1", 8080), 1, True)
    config = setup.config
    assert setup.shutdown_address is None
    assert config.timeout is None
    assert (config.max_instance_reuse_count, config.idle_instance_timeout, config.request_headers) == (1, 1.0, ())
    assert (config.max_concurrent_requests, config.max_concurrent_connections) == (1000, 1000)
    assert (config.header_timeout, config.idle_timeout, config.shutdown_timeout) == (30.0, 75.0, 30.0)
    assert (dict(config.env), config.egress, config.logging_prefix) == ({}, Egress(), True)
    assert config.wire_limits.body is None


OPTIONS: list[tuple[list[str], str, Any]] = [
    (["--timeout", "500ms"], "timeout", 0.5),
    (["--max-concurrent-requests", "5"], "max_concurrent_requests", 5),
    (["--max-concurrent-connections", "6"], "max_concurrent_connections", 6),
    (["--max-resources", "7"], "max_resources", 7),
    (["--queue-timeout", "2s"], "queue_timeout", 2.0),
    (["--client-gone-grace", "0"], "client_gone_grace", 0.0),
    (["--min-body-rate", "0"], "min_body_rate", 0),
    (["--header-timeout", "1m"], "header_timeout", 60.0),
    (["--idle-timeout", "2s"], "idle_timeout", 2.0),
    (["--shutdown-timeout", "3"], "shutdown_timeout", 3.0),
    (["--no-logging-prefix"], "logging_prefix", False),
    (["--allow-egress", "Example.com:80", "--allow-egress", "b"], "egress", Egress.parse("example.com:80", "b")),
    (["--allow-egress", "all"], "egress", Egress.parse("all")),
    (
        ["--allow-egress", "https://*.B\u00fccher.example.:443", "--allow-egress", "[FD00:0::]/8:80"],
        "egress",
        Egress.parse("https://*.xn--bcher-kva.example:443", "[fd00::]/8:80"),
    ),
    (["--max-instance-reuse-count", "128"], "max_instance_reuse_count", 128),
    (["--idle-instance-timeout", "250ms"], "idle_instance_timeout", 0.25),
    (
        ["-H", "X-A: 1", "--header", "x-b:2", "-H", "X-A:\t3 ", "-H", "empty:"],
        "request_headers",
        ((b"X-A", b"1"), (b"x-b", b"2"), (b"X-A", b"3"), (b"empty", b"")),
    ),
    (["-H", "X: a:b", "-H", "Host: [::1]:80"], "request_headers", ((b"X", b"a:b"), (b"Host", b"[::1]:80"))),
    (["-H", "x: \u00e9"], "request_headers", ((b"x", b"\xc3\xa9"),)),
    (["--max-egress-connections", "9"], "max_egress_connections", 9),
    (["--egress-proxy-from-env"], "client.proxies.http", Proxy("proxy", 3128)),
    (["--max-memory-size", "1MiB"], "store_limits.memory_size", 1 << 20),
    (["--max-memory-size", "64M"], "store_limits.memory_size", 64 << 20),
    (["--max-request-body", "10k"], "wire_limits.body", 10240),
    (["--env", "A=1", "--env", "B=", "--env", "C=a=b", "--env", "A=2"], "env", {"A": "2", "B": "", "C": "a=b"}),
    (["--env", "PRESENT", "--env", "ABSENT"], "env", {"PRESENT": "of the server"}),
    (["--env", "NOT_UTF_8"], "env", {"NOT_UTF_8": "a\ufffdb"}),
]


@pytest.mark.parametrize(("arguments", "name", "value"), OPTIONS)
def test_options(
    setups: list[Setup], monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str, value: object
) -> None:
    monkeypatch.setenv("PRESENT", "of the server")
    monkeypatch.delenv("ABSENT", raising=False)
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setitem(os.environ, "NOT_UTF_8", "a\udcffb")
    assert invoke("app.wasm", *arguments).exit_code == 0
    found: Any = setups[0].config
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:80", ("::1", 80)),
        (":8080", ("", 8080)),
        ("[::]:8080", ("::", 8080)),
        ("[fe80::1%eth0]:8080", ("fe80::1%eth0", 8080)),
    ],
)
def test_addresses(setups: list[Setup], text: str, address: tuple[str, int]) -> None:
    assert invoke("app.wasm", "--addr", text, "--workers", 3, "--no-cache").exit_code == 0
    assert (setups[0].address, setups[0].workers, setups[0].engine.cache) == (address, 3, False)
    assert invoke("app.wasm", "--shutdown-addr", text).exit_code == 0
    assert setups[1].shutdown_address == address


def test_how_it_is_compiled(setups: list[Setup]) -> None:
    assert invoke("app.wasm").exit_code == 0
    assert setups[0].engine == EngineConfig(isolate_compilation=True)
    assert invoke("app.wasm", "--compile-timeout", "1m", "--cache-dir", "there", "--no-cache").exit_code == 0
    expected = EngineConfig(isolate_compilation=True, compile_timeout=60, cache_directory="there", cache=False)
    assert setups[1].engine == expected
    assert invoke("app.wasm", "--trust-guest").exit_code == 0
    assert [setup.engine.interruptible for setup in setups] == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["--port", "80"], ("127.0.0.1", 80)),
        (["--host", "::1"], ("::1", 8080)),
        (["--host", "[::1]", "--port", "0"], ("::1", 0)),
        (["--host", "0.0.0.0", "--port", "8000"], ("0.0.0.0", 8000)),
        (["--host", "", "--port", "8000"], ("", 8000)),
    ],
)
def test_host_and_port(setups: list[Setup], arguments: list[str], address: tuple[str, int]) -> None:
    assert invoke("app.wasm", *arguments).exit_code == 0
    assert setups[0].address == address


def test_headers_from_a_file(setups: list[Setup], tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_bytes(b"X-A: 1\r\n\n   \nx-a: \xff\nX-B:  two words  ")
    assert invoke("app.wasm", "-H", "first: 0", "-H", f"@{file}").exit_code == 0
    assert setups[0].config.request_headers == (
        (b"first", b"0"),
        (b"X-A", b"1"),
        (b"x-a", b"\xff"),
        (b"X-B", b"two words"),
    )
    file.write_bytes(b"X-A: 1\nno colon\n")
    refused = invoke("app.wasm", "-H", f"@{file}")
    assert refused.exit_code == 2
    assert "'no colon': there is no colon" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--addr", "localhost"], "write HOST:PORT"),
        (["--addr", "localhost:http"], "write HOST:PORT"),
        (["--addr", "localhost:65536"], "the port is 0 to 65535"),
        (["--addr", "localhost:²"], "write HOST:PORT"),
        (["--addr", "8080"], "'8080' is not an address: write HOST:PORT"),
        (["--addr", "::1:8080"], "'::1:8080' is not an address: write HOST:PORT, as in 127.0.0.1:8080, [::1]:8080 or"),
        (["--addr", "[[::1]:80"], "write HOST:PORT"),
        (["--addr", "[]:80"], "write HOST:PORT"),
        (["--addr", ":80", "--port", "80"], "--addr HOST:PORT replaces --host and --port"),
        (["--port", "65536"], "is not in the range"),
        (["-Scli"], "No such option: -Scli: leave it out"),
        (["-S", "cli"], "No such option: -S cli: leave it out"),
        (["-Shttp", "-Scli"], "No such option: -Shttp: leave it out"),
        (["-Smax-resources=5"], "No such option: -Smax-resources=5: write --max-resources N"),
        (["-Wtimeout=1s"], "No such option: -Wtimeout=1s: write --timeout DURATION (docs/serve.md"),
        (["-W", "timeout=1s"], "No such option: -W timeout=1s: write --timeout DURATION"),
        (["-Wall"], "No such option: -Wall: see --timeout"),
        (["-Dlogging=y"], "No such option: -Dlogging=y: there is nothing like it here"),
        (["--dir", "/tmp"], "No such option: --dir: guests have no files"),
        (["--dir=/tmp"], "No such option: --dir=/tmp: guests have no files"),
        (["--bind", ":80"], "No such option: --bind: write --addr HOST:PORT"),
        (["--timeuot", "1s"], "--timeout"),
        (["--env", "=x"], "write NAME=VALUE"),
        (["--timeout", "soon"], "is not a duration"),
        (["--shutdown-addr", "localhost"], "write HOST:PORT"),
        (["--shutdown-addr", "8081"], "write HOST:PORT, as in 127.0.0.1:8081, [::1]:8081 or :8081 (all addresses)"),
        (["--max-instance-reuse-count", "0"], "0 is not in the range"),
        (["--idle-instance-timeout", "-1s"], "is not a duration"),
        (["-H", "x"], "there is no colon"),
        (["-H", ": x"], "the name is not valid"),
        (["-H", "a b: x"], "the name is not valid"),
        (["-H", "x: a\nb: c"], "the value is not valid"),
        (["-H", "Content-Length: 3"], "belongs to the connection"),
        (["-H", "connection: close"], "belongs to the connection"),
        (["-H", "host: a b"], "the value is not valid"),
        (["-H", "host:"], "the value is not valid"),
        (["-H", "host: a", "-H", "Host: b"], "only one Host"),
        (["-H", "@no-such-file"], "no-such-file: No such file or directory"),
        (["--max-memory-size", "much"], "is not a size"),
        (["--max-memory-size", "64MB"], "is not a size: write 4096, 64KiB, 64MiB, 1GiB (or 64K, 64M, 1G)"),
        (["--allow-egress", "example.com", "--allow-egress", "127.1"], "'127.1' is not an egress rule: an IPv4"),
        (["--allow-egress", "10.1.0.0/8"], "'10.1.0.0/8' is not an egress rule: the network of this address is 10.0"),
        (["--allow-egress", "ftp://example.com"], "the scheme is http or https"),
        (["--allow-egress", ""], "'' is not an egress rule"),
        (["--compile-timeout", "0"], "'--compile-timeout': it must be longer than 0"),
        (["--cache-dir", __file__], "is a file"),
        (["--timeout", "0"], "'--timeout': it must be longer than 0"),
        (["--header-timeout", "0s"], "'--header-timeout': it must be longer than 0"),
        (["--idle-timeout", "0ms"], "'--idle-timeout': it must be longer than 0"),
        (["--timeout", "8761h"], "'--timeout': it must be at most a year"),
        (["--shutdown-timeout", "9" * 400], "'--shutdown-timeout': it must be at most a year"),
        (["--idle-instance-timeout", "1000000000000000s"], "it must be at most a year"),
        (["--max-memory-size", "0"], "'--max-memory-size': it must be 64KiB to 4GiB"),
        (["--max-memory-size", "4097MiB"], "'--max-memory-size': it must be 64KiB to 4GiB"),
        (["--max-request-body", "9" * 5000], "is not a size"),
        (["--max-concurrent-requests", "10001"], "10001 is not in the range 1<=x<=10000"),
        (["--max-concurrent-connections", "1000000000"], "is not in the range 1<=x<=1000000"),
        (["--min-body-rate", "1000000001"], "is not in the range 0<=x<=1000000000"),
        (["--max-resources", "268435456"], "is not in the range 1<=x<=268435455"),
        (["--max-instance-reuse-count", "9" * 5000], "is not a valid integer"),
        (["--workers", "0"], "0 is not in the range"),
        (["--max-concurrent-requests", "0"], "0 is not in the range"),
        (["--egress-ca-bundle", "no-such-file"], "does not exist"),
        (["--egress-ca-bundle", __file__], "--egress-ca-bundle: "),
        (["--egress-client-cert", __file__], "--egress-client-cert: "),
        (["--egress-client-key", __file__], "needs --egress-client-cert"),
        (["--egress-proxy-from-env"], "--egress-proxy-from-env: socks5://proxy is not an HTTP proxy"),
    ],
)
def test_wrong_options(setups: list[Setup], monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str) -> None:
    monkeypatch.setenv("http_proxy", "socks5://proxy")
    result = invoke("app.wasm", *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 4, "usage, where help is, nothing, and one line that says it"
    assert not setups


def test_as_many_requests_as_can_be_asked_for_fit_into_the_address_space() -> None:
    (option,) = [option for option in serve.params if option.name == "max_concurrent_requests"]
    assert isinstance(option.type, click.IntRange)
    assert option.type.max is not None
    memories = (option.type.max + 16) * EngineConfig().memories_per_instance
    assert memories * ((4 << 30) + (64 << 20)) < 1 << 47


def test_help() -> None:
    result = CliRunner().invoke(commands, ["serve", "--help"])
    assert result.exit_code == 0
    assert "--max-concurrent-requests" in result.stdout


# ---- what cannot be served ------------------------------------------------------------------------------------------

CORE = wat_to_wasm('(module (func (export "run")))')
NO_HANDLER = '(component (core module $m (func (export "f"))) (core instance $i (instantiate $m)))'
RUNS_ONCE = """(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
  (func $run (canon lift (core func $i "f"))) (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))"""
UNKNOWN_IMPORT = '(component (import "test:unknown/thing@1.0.0" (instance (export "f" (func)))))'

# Name, content, what is said.
FILES: list[tuple[str, bytes | str, str]] = [
    ("empty.wasm", b"", "error: {path}: the component is empty"),
    ("app.py", "print('hello')", "error: {path}: this is Python source: make a component of it with `componentize-py"),
    (
        "command.wat",
        RUNS_ONCE,
        "error: {path}: the component does not export wasi:http/incoming-handler@0.2.12; "
        "it exports wasi:cli/run@0.2.0; it is a command, which runs once",
    ),
    (
        "new.wat",
        "(component (type (stream u8)))",
        "error: {path}: the type stream is not supported yet: the component is made for WASI 0.3, ",
    ),
    ("text.wasm", "(component\n what)", "error: {path}: not a binary component, and invalid as text in line 2, "),
    ("binary.wasm", b"\xff\xfe\x00\x01" * 100, "error: {path}: "),
    ("core.wasm", CORE, "error: {path}: this is a core module, not a component"),
    ("core.wat", '(module (func (export "run")))', "error: {path}: this is a core module, not a component"),
    ("no-handler.wat", NO_HANDLER, "error: {path}: the component does not export wasi:http/incoming-handler"),
    ("import.wat", UNKNOWN_IMPORT, "error: {path}: "),
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def refused(*arguments: object) -> str:
    result = invoke(*arguments, "--addr", "127.0.0.1:0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert not isinstance(result.exception, Exception)
    return beside_compiling(result.stderr)


def beside_compiling(said: str) -> str:
    return "".join(line for line in said.splitlines(keepends=True) if not line.startswith(("compiling ", "compiled ")))


@pytest.mark.parametrize(("name", "content", "expected"), FILES)
@pytest.mark.parametrize("workers", [1, 2])
def test_files_that_cannot_be_served(
    tmp_path: Path, name: str, content: bytes | str, expected: str, workers: int
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    said = refused(path, "--workers", workers)
    assert said.startswith(expected.format(path=path))
    assert len(said.splitlines()) == 1, said


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "damaged.wasm"
    whole = wat_to_wasm(HELLO.read_text())
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path).startswith(f"error: {path}: ")


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing.wasm") == f"error: {tmp_path / 'missing.wasm'}: no such file\n"
    assert refused(tmp_path) == f"error: {tmp_path}: is a directory, not a component\n"
    assert refused(HELLO / "file.wasm") == f"error: {HELLO / 'file.wasm'}: Not a directory\n"
    assert refused(tmp_path / ("x" * 300)) == f"error: {tmp_path / ('x' * 300)}: File name too long\n"


def test_a_name_that_is_nearly_right(tmp_path: Path) -> None:
    (tmp_path / "app.wasm").touch()
    missing = tmp_path / "ap.wasm"
    assert refused(missing) == f"error: {missing}: no such file; did you mean {tmp_path / 'app.wasm'}?\n"


@pytest.mark.parametrize("url", ["https://example.com/app.wasm", "oci://ghcr.io/a/b:1"])
@pytest.mark.parametrize("command", ["serve", "compile"])
def test_a_url_is_no_file(command: str, url: str) -> None:
    result = CliRunner().invoke(commands, [command, url])
    assert result.exit_code == 2
    assert f"{url!r} is a URL: download it" in result.stderr


NO_COMMANDS = [
    (["app.wasm"], "No such command 'app.wasm': to serve the file, write wasi-http serve app.wasm"),
    (["no/such.wat", "--addr", ":80"], "to serve the file, write wasi-http serve no/such.wat"),
    ([str(HELLO.parents[1] / "README.md")], "to serve the file, write wasi-http serve "),
    (["run", "app.wasm"], "No such command 'run': the commands are compile and serve"),
    (["--addr", ":80", "app.wasm"], "No such option: --addr: write wasi-http serve --addr …"),
    (["--portable", "app.wasm"], "No such option: --portable: write wasi-http compile --portable …"),
    (["--nothing"], "No such option"),
    (["x" * 9999], "the commands are compile and serve"),
]


@pytest.mark.parametrize(("arguments", "said"), NO_COMMANDS, ids=[arguments[0][:20] for arguments, _ in NO_COMMANDS])
def test_what_is_no_command(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(commands, arguments, prog_name="wasi-http")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr) < 1000


def test_the_version() -> None:
    assert CliRunner().invoke(commands, ["--version"]).stdout == f"wasi-http, version {wasi_http.__version__}\n"
    with (HELLO.parents[1] / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == wasi_http.__version__


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_path_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.wasm"
    path.touch(0)
    assert refused(path) == f"error: {path}: permission denied\n"


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_busy_port(busy: int, workers: int) -> None:
    result = invoke(HELLO, "--addr", f"127.0.0.1:{busy}", "--workers", workers)
    assert (result.exit_code, result.stdout) == (1, "")
    assert beside_compiling(result.stderr) == (
        f"error: cannot listen on 127.0.0.1:{busy}: Address already in use; stop what listens there, or write --addr "
        "HOST:PORT with another port, 0 for a free one\n"
    )


def test_a_port_that_other_workers_share() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listener:
        port = listener.getsockname()[1]
        result = invoke(HELLO, "--addr", f"127.0.0.1:{port}", "--workers", 2)
    said = beside_compiling(result.stderr)
    assert said.startswith(f"error: cannot listen on 127.0.0.1:{port}: Address already in use; stop what listens there")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_busy_port_for_the_shutdown(busy: int, workers: int) -> None:
    shutdown = f"127.0.0.1:{busy}"
    result = invoke(HELLO, "--addr", "127.0.0.1:0", "--workers", workers, "--shutdown-addr", shutdown)
    assert (result.exit_code, result.stdout) == (1, "")
    assert beside_compiling(result.stderr) == (
        f"error: cannot listen on {shutdown}: Address already in use; stop what listens there, or write "
        "--shutdown-addr HOST:PORT with another port, 0 for a free one\n"
    )


@pytest.mark.parametrize(
    ("host", "cure"),
    [("192.0.2.1", "; the machine does not have this address, write --addr :PORT "), ("a..b", ""), ("x" * 64, "")],
)
def test_an_address_that_is_not_here(host: str, cure: str) -> None:
    result = invoke(HELLO, "--addr", f"{host}:80")
    assert result.exit_code == 1
    said = beside_compiling(result.stderr)
    assert said.startswith(f"error: cannot listen on {host}:80: ")
    assert cure in said
    assert len(said.splitlines()) == 1


def test_the_process(busy: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", str(HELLO), "--addr", f"127.0.0.1:{busy}"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert beside_compiling(done.stderr) == (
        f"error: cannot listen on 127.0.0.1:{busy}: Address already in use; stop what listens there, or write --addr "
        "HOST:PORT with another port, 0 for a free one\n"
    )


# ---- what is said of compilation ------------------------------------------------------------------------------------


def compiling(*arguments: object) -> list[str]:
    """What is said of compilation, by a server that cannot listen then."""
    result = invoke(*arguments, "--addr", "192.0.2.1:80")
    assert result.exit_code == 1
    *lines, error = result.stderr.splitlines()
    assert error.startswith("error: cannot listen on 192.0.2.1:80: ")
    return [re.sub(r"\d+\.\d s", "N s", line) for line in lines]


def test_each_step_is_said(tmp_path: Path) -> None:
    cache = tmp_path / "wasi-http"
    assert compiling(HELLO) == [f"compiling {HELLO} …", f"compiled {HELLO} in N s (cached in {cache})"]
    assert compiling(HELLO) == []
    cache = tmp_path / "elsewhere"
    assert compiling(HELLO, "--cache-dir", cache)[1:] == [f"compiled {HELLO} in N s (cached in {cache})"]
    assert compiling(HELLO, "--cache-dir", cache) == []
    cache.chmod(0o777)
    reason = f"others can write to {cache} (its mode is 777)"
    assert compiling(HELLO, "--cache-dir", cache)[1:] == [f"compiled {HELLO} in N s (not cached: {reason})"]
    assert compiling(HELLO, "--no-cache")[1:] == [f"compiled {HELLO} in N s (not cached: the cache is off)"]


@pytest.mark.parametrize("options", [[], ["--no-cache"]])
def test_without_a_home(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    # What it does for a user whom the system does not know:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    reason = "the cache is off" if options else "there is no home directory, and XDG_CACHE_HOME is not set"
    assert compiling(HELLO, *options)[1:] == [f"compiled {HELLO} in N s (not cached: {reason})"]


def test_a_component_that_takes_too_long_to_compile(tmp_path: Path) -> None:
    path = tmp_path / "loops.wat"
    path.write_text(f"(component (core module (func {'loop ' * 100_000}{'end ' * 100_000})))")
    assert refused(path, "--compile-timeout", "1s") == (
        f"error: {path}: compiling takes longer than 1 s (--compile-timeout, EngineConfig.compile_timeout)\n"
    )


def test_a_terminal_shows_that_something_goes_on(tmp_path: Path) -> None:
    slow = tmp_path / "slow.wat"  # for some tenths of a second
    slow.write_text(f"(component (core module (func {'loop ' * 8_000}{'end ' * 8_000})))")
    main, terminal = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as screen:
        command = [*COMMAND, "compile", str(slow), "--cache-dir", str(tmp_path / "cache")]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
        with subprocess.Popen(command, stderr=terminal, stdout=subprocess.DEVNULL, env=environment) as process:
            os.close(terminal)
            shown = b""
            with contextlib.suppress(OSError):  # how the end of a terminal reads
                while data := screen.read(4096):
                    shown += data
    assert process.returncode == 1, "it compiles, and exports nothing"
    # A spinner and the time are drawn again and again, however few modules there are.
    assert len(re.findall(rb"([^\x00-\x7f]+)\x1b\[0m compiling .*?\d:\d\d:\d\d", shown)) > 1, shown
    assert b" s (cached in " in shown
