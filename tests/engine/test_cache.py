"""The compile cache: what it keeps, what it trusts, and that nothing which befalls it stops anything."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wasi_http.engine import Engine, EngineConfig, Module, wat_to_wasm
from wasi_http.engine import cache as cache_module
from wasi_http.engine.cache import ModuleCache, cache_directory

ADD = wat_to_wasm("""(module (func (export "add") (param i32 i32) (result i32)
  (i32.add (local.get 0) (local.get 1))))""")
KEY = ModuleCache.key(ADD)


@pytest.fixture(scope="module")
def engines() -> Callable[[Path | None], Engine]:
    """Engines are made once for each directory, as they reserve address space."""
    made: dict[Path | None, Engine] = {}

    def engine(directory: Path | None) -> Engine:
        if directory not in made:
            chosen = None if directory is None else str(directory)
            made[directory] = Engine(EngineConfig(max_instances=1, cache_directory=chosen))
        return made[directory]

    return engine


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def make(engines: Callable[[Path | None], Engine], directory: Path) -> Callable[[], ModuleCache]:
    """Makes caches of that directory, as processes do that start one after the other."""
    return lambda: ModuleCache(engines(directory))


@pytest.fixture
def entry(make: Callable[[], ModuleCache], directory: Path) -> Path:
    """An entry that is well."""
    assert make().compile(KEY, ADD).exports
    (path,) = directory.iterdir()
    return path


def test_a_compiled_module_is_found_again_by_another_engine(directory: Path) -> None:
    def another() -> ModuleCache:
        return ModuleCache(Engine(EngineConfig(max_instances=1, cache_directory=str(directory))))

    cache = another()
    assert cache.find(KEY) is None
    assert (cache.entries, cache.problem) == ([], "")
    compiled = cache.compile(KEY, ADD)
    (path,) = directory.iterdir()
    assert (cache.entries, cache.problem) == ([path], "")
    cache = another()
    found = cache.find(KEY)
    assert found is not None
    assert found.exports == compiled.exports
    assert (cache.entries, cache.problem) == ([path], "")
    assert cache.find(cache.key(ADD + b"\0\2\1x")) is None


def test_settings_that_change_the_code_have_entries_of_their_own(directory: Path) -> None:
    for pooling in (True, False):
        config = EngineConfig(max_instances=1, pooling=pooling, cache_directory=str(directory))
        assert ModuleCache(Engine(config)).find(KEY) is None
        ModuleCache(Engine(config)).compile(KEY, ADD)
    assert len(list(directory.iterdir())) == 2


def test_code_for_any_processor_will_do(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(portable: bool) -> Engine:
        return Engine(EngineConfig(max_instances=1, portable=portable, cache_directory=str(directory)))

    portable = ModuleCache(engine(True))
    assert portable.compile(KEY, ADD).exports
    (entry,) = directory.iterdir()
    assert b"has_sse3\2\1" not in entry.read_bytes()
    native = ModuleCache(engine(False))
    assert native.find(KEY) is not None
    assert native.entries == [entry]
    assert native.complete
    # What is compiled here is better.
    native.compile(KEY, ADD)
    assert len(list(directory.iterdir())) == 2
    better = ModuleCache(engine(False))
    assert better.find(KEY) is not None
    assert better.entries != [entry]
    # On another processor:
    monkeypatch.setattr(cache_module, "_processor_features", lambda: "none")
    elsewhere = ModuleCache(engine(False))
    assert elsewhere.find(KEY) is not None
    assert elsewhere.entries == [entry]


def test_features_that_the_compiler_does_not_use_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def features(line: str) -> str:
        monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(f"processor : 0\n{line}\n"))
        cache_module._processor_features.cache_clear()
        return cache_module._processor_features()

    try:
        assert features("flags : fpu avx2 pni ibpb") == features("flags : pni fpu vmx avx2") == "avx2 pni"
        assert features("flags : fpu pni ibpb") == "pni"
        assert features("Features : fp asimd atomics") == "asimd atomics fp"
    finally:
        cache_module._processor_features.cache_clear()


def test_where_there_is_no_name_for_a_descriptor(
    make: Callable[[], ModuleCache], entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc the module is read."""
    monkeypatch.setattr(cache_module, "_DESCRIPTORS", "/no-such-directory")
    found = make().find(KEY)
    assert found is not None
    assert [export.name for export in found.exports] == ["add"]


# ---- damage ---------------------------------------------------------------------------------------------------------


def without_a_page(data: bytes) -> bytes:
    """What a power failure leaves of a page that did not reach the disk."""
    start = (len(data) // 2) & ~4095
    assert any(data[start : start + 4096])
    return data[:start] + bytes(4096) + data[start + 4096 :]


DAMAGE: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("nothing", lambda data: b""),
    ("words", lambda data: b"damaged"),
    ("half of it", lambda data: data[: len(data) // 2]),
    ("without its end", lambda data: data[:-1]),
    ("more than it", lambda data: data + b"\0"),
    ("zeros", lambda data: bytes(len(data))),
    ("a page of zeros", without_a_page),
    ("one bit", lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]),
    ("no checksum, as in entries of old", lambda data: data[:-20]),
]


@pytest.mark.parametrize("damage", [case[1] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_a_damaged_entry_is_compiled_again(
    make: Callable[[], ModuleCache], entry: Path, damage: Callable[[bytes], bytes]
) -> None:
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    cache = make()
    assert cache.find(KEY) is None
    assert cache.problem
    assert cache.compile(KEY, ADD).exports
    assert cache.problem == ""
    assert len(entry.read_bytes()) == len(whole)
    assert make().find(KEY) is not None


def test_entries_reach_the_disk_before_their_names(
    make: Callable[[], ModuleCache], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, fsync = os.replace, os.fsync

    def syncing(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def replacing(source: str, target: str, **directories: int) -> None:
        done.append("rename")
        replace(source, target, **directories)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    make().compile(KEY, ADD)
    assert done == ["file", "rename", "directory"]


# ---- trust ----------------------------------------------------------------------------------------------------------


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it another user's, as far as the process can see."""
    if os.geteuid() == 0:
        os.chown(path, 54321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


@pytest.mark.parametrize("mode", [0o666, 0o622, 0o664, 0o646, 0o620])
def test_an_entry_that_others_can_write_to(make: Callable[[], ModuleCache], entry: Path, mode: int) -> None:
    entry.chmod(mode)
    cache = make()
    assert cache.find(KEY) is None
    assert cache.problem.startswith("others can write to ")
    assert cache.compile(KEY, ADD).exports
    assert not entry.stat().st_mode & 0o022
    assert make().find(KEY) is not None


def test_an_entry_of_another_user(
    make: Callable[[], ModuleCache], entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(entry, monkeypatch)
    cache = make()
    assert cache.find(KEY) is None
    assert "belongs to another user" in cache.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is root's")
def test_other_users_trust_what_is_roots(
    make: Callable[[], ModuleCache], entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    cache = make()
    assert cache.find(KEY) is not None
    assert (cache.entries, cache.problem) == ([entry], "")


def test_an_entry_that_leads_elsewhere(make: Callable[[], ModuleCache], entry: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    entry.rename(elsewhere)
    content = elsewhere.read_bytes()
    entry.symlink_to(elsewhere)
    cache = make()
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert not entry.is_symlink()
    assert elsewhere.read_bytes() == content
    assert make().find(KEY) is not None


def test_an_entry_that_is_a_named_pipe(make: Callable[[], ModuleCache], entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)
    cache = make()
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert make().find(KEY) is not None


def test_an_entry_that_is_a_directory(make: Callable[[], ModuleCache], entry: Path) -> None:
    entry.unlink()
    entry.mkdir()
    cache = make()
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert "directory" in cache.problem.lower()
    assert [path.name for path in entry.parent.iterdir()] == [entry.name]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_directory_that_others_can_write_to(
    make: Callable[[], ModuleCache], entry: Path, directory: Path, mode: int
) -> None:
    directory.chmod(mode)
    before = entry.read_bytes()
    cache = make()
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert cache.problem.startswith(f"others can write to {directory} (its mode is ")
    assert (list(directory.iterdir()), entry.read_bytes()) == ([entry], before)


def test_a_directory_of_another_user(
    make: Callable[[], ModuleCache], entry: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(directory, monkeypatch)
    cache = make()
    assert cache.find(KEY) is None
    assert cache.problem.startswith(f"{directory} belongs to another user (")
    assert cache.compile(KEY, ADD).exports
    assert list(directory.iterdir()) == [entry]


def test_a_directory_that_is_a_link_to_ones_own(
    engines: Callable[[Path | None], Engine], entry: Path, directory: Path, tmp_path: Path
) -> None:
    """Caches may lie on another disk."""
    link = tmp_path / "link"
    link.symlink_to(directory)
    assert ModuleCache(engines(link)).find(KEY) is not None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_directory_above_that_others_can_write_to(
    engines: Callable[[Path | None], Engine], tmp_path: Path, depth: int, mode: int
) -> None:
    """They could put a directory of the user's that is elsewhere in its place, or one of old."""
    above = tmp_path / "above"
    directory = above.joinpath(*"abc"[:depth])
    directory.mkdir(0o700, parents=True)
    link = tmp_path / "link"
    link.symlink_to(directory)
    for named in (directory, link):
        above.chmod(mode)
        cache = ModuleCache(engines(named))
        assert cache.find(KEY) is None
        assert cache.compile(KEY, ADD).exports
        assert cache.problem == f"others can write to {above} (its mode is {mode:03o})"
        assert list(directory.iterdir()) == []
        # Where they can only add to it, they cannot move what is there.
        above.chmod(mode | stat.S_ISVTX)
        cache = ModuleCache(engines(named))
        assert cache.compile(KEY, ADD).exports
        assert cache.problem == ""
        assert ModuleCache(engines(named)).find(KEY) is not None
        for path in directory.iterdir():
            path.unlink()


def test_a_directory_above_of_another_user(
    engines: Callable[[Path | None], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path / "above"
    directory = above / "cache"
    directory.mkdir(0o700, parents=True)
    above.chmod(0o1777)
    give_away(above, monkeypatch)
    cache = ModuleCache(engines(directory))
    assert cache.compile(KEY, ADD).exports
    assert "belongs to another user (" in cache.problem
    assert list(directory.iterdir()) == []


def test_directories_that_are_made_are_trusted(engines: Callable[[Path | None], Engine], tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b" / "c"
    umask = os.umask(0)
    try:
        cache = ModuleCache(engines(directory))
        cache.compile(KEY, ADD)
    finally:
        os.umask(umask)
    assert cache.problem == ""
    assert [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.parents[:2])] == [0o755] * 3


def test_a_directory_can_be_shipped_for_others_to_read(make: Callable[[], ModuleCache], entry: Path) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(entry.stat().st_mode) == 0o644 & ~umask
    assert stat.S_IMODE(entry.parent.stat().st_mode) == 0o755 & ~umask


# ---- places that cannot be used -------------------------------------------------------------------------------------


def test_the_cache_can_be_off(tmp_path: Path) -> None:
    engine = Engine(EngineConfig(max_instances=1, cache=False, cache_directory=str(tmp_path)))
    cache = ModuleCache(engine)
    assert cache.directory is None
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert cache.problem == "the cache is off"
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home(engines: Callable[[Path | None], Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    # What it does for a user whom the system does not know:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache_directory() is None
    cache = ModuleCache(engines(None))
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert cache.problem == "there is no home directory, and XDG_CACHE_HOME is not set"


@pytest.mark.parametrize("relative", ["", "relative", "./x", "~/cache"])
def test_relative_directories_are_not_meant(monkeypatch: pytest.MonkeyPatch, relative: str) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    assert cache_directory() == Path("/home/ada/.cache/wasi-http")
    monkeypatch.setenv("HOME", relative)
    if relative in ("relative", "./x"):
        assert cache_directory() is None


def test_a_directory_that_vanishes(make: Callable[[], ModuleCache], entry: Path, directory: Path) -> None:
    cache = make()
    entry.unlink()
    directory.rmdir()
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert make().find(KEY) is not None


def test_a_file_in_place_of_the_directory(make: Callable[[], ModuleCache], directory: Path) -> None:
    directory.write_text("")
    cache = make()
    assert cache.find(KEY) is None
    assert cache.compile(KEY, ADD).exports
    assert cache.problem.startswith(f"{directory}: ")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_a_disk_that_cannot_be_written(
    make: Callable[[], ModuleCache], directory: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        cache = make()
        assert cache.compile(KEY, ADD).exports
    assert cache.problem == f"{directory}: {os.strerror(code)}"
    assert cache.entries == []
    # Nothing is left that looks like an entry, or would never be removed.
    assert not directory.exists() or list(directory.iterdir()) == []


# ---- growth ---------------------------------------------------------------------------------------------------------


def entry_name(number: int) -> str:
    return f"{number:064x}-{number:032x}.cwasm"


def other(directory: Path, name: str, age: float, size: int = 0) -> Path:
    path = directory / name
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_was_not_used_for_long_is_removed(make: Callable[[], ModuleCache], directory: Path) -> None:
    directory.mkdir(0o700)
    day = 86400
    kept = [
        other(directory, entry_name(1), 29 * day),
        other(directory, f".new-{'1' * 16}", 60),
        # Not the cache's:
        other(directory, "notes.txt", 900 * day),
        other(directory, "app.cwasm", 900 * day),
        other(directory, ".new-plans", 900 * day),
    ]
    removed = [
        other(directory, entry_name(2), 31 * day),
        other(directory, f".new-{'2' * 16}", 2 * 3600),
    ]
    cache = make()
    cache.compile(KEY, ADD)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in removed)
    assert make().find(KEY) is not None


def test_the_size_of_the_cache_is_bounded(make: Callable[[], ModuleCache], directory: Path) -> None:
    directory.mkdir(0o700)
    large = 900 << 20
    paths = [other(directory, entry_name(hours), hours * 3600, large) for hours in (5, 1, 3)]
    make().compile(KEY, ADD)
    assert [path.exists() for path in paths] == [False, True, True]
    assert make().find(KEY) is not None


def test_entries_that_are_used_are_not_old(make: Callable[[], ModuleCache], entry: Path) -> None:
    old = time.time() - 20 * 86400
    os.utime(entry, (old, old))
    assert make().find(KEY) is not None
    assert time.time() - entry.stat().st_mtime < 86400


def test_entries_that_root_has_shipped_need_not_be_touched(
    make: Callable[[], ModuleCache], entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = time.time() - 20 * 86400
    os.utime(entry, (old, old))

    def fail(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "utime", fail)
    found = make().find(KEY)
    assert isinstance(found, Module)
