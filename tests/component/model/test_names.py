from __future__ import annotations

import time

import pytest

from wasi_http.component.model.names import is_interface_name, is_label, parse_extern_name


@pytest.mark.parametrize(
    "text", ["a", "a-b-c", "a1-2-3", "A", "A-B-C", "A1-2-3", "a11-w0rds", "m1x3d-4CR0NYMS", "is-XML"]
)
def test_labels(text: str) -> None:
    assert is_label(text)


@pytest.mark.parametrize("text", ["", "1", "1-2-3", "-a", "a-", "a--b", "aB", "a_b", "a.b", "a b", "ä", "a\n", "a-Bc"])
def test_what_is_no_label(text: str) -> None:
    assert not is_label(text)
    assert parse_extern_name(text) is None


@pytest.mark.parametrize(
    ("text", "kind", "resource"),
    [
        ("handle", "plain", None),
        ("wasi:http/types@0.2.12", "interface", None),
        ("wasi:http/types", "interface", None),
        ("a-b:c-d/E-f@123456.7890.488", "interface", None),
        ("a:b/c@0.0.0-abcd.1.2+efg.4.ee.5", "interface", None),
        ("a:b/c@0.0.0+001", "interface", None),
        ("a:b/c@0.2", "interface", None),
        ("a:b/c@1", "interface", None),
        ("[constructor]fields", "constructor", "fields"),
        ("[method]fields.to-list", "method", "fields"),
        ("[static]A.b", "static", "A"),
    ],
)
def test_names_of_imports_and_exports(text: str, kind: str, resource: str | None) -> None:
    name = parse_extern_name(text)
    assert name is not None
    assert (name.kind, name.resource) == (kind, resource)
    assert is_interface_name(text) == (kind == "interface")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a:b",
            "a/b",
            "A:b/c",
            "a:B/c",
            "a:b/c/d",
            "a:b:c/d",
            ":b/c",
            "a:/c",
            "a:b/",
            "a:b/c@",
            "a:b/c@1.",
            "a:b/c@1.2",
        ),
        *("a:b/c@a.2", "a:b/c@1.2.03", "a:b/c@1.2.3-", "a:b/c@1.2.3+", "a:b/c@1.2.3-01", "a:b/c@0", "a:b/c@0.0"),
        *("[constructor]", "[constructor]a.b", "[method]a", "[method]a.", "[method].a", "[method]a.b.c", "[static]a"),
        *("[other]a", "[method]a:b/c", "url=<https://example.com>", "[constructor]aB"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    assert parse_extern_name(text) is None


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("foo", "foo-bar", False),
        ("foo", "[constructor]foo", False),
        ("foo", "[method]foo.bar", False),
        ("[method]foo.bar", "[static]foo.baz", False),
        ("foo", "FOO", True),
        ("foo-bar", "foo-BAR", True),
        ("[constructor]foo", "[constructor]FOO", True),
        ("[method]foo.bar", "[method]foo.BAR", True),
        ("[method]foo.bar", "[static]foo.bar", True),
        ("foo", "[method]foo.foo", True),
        ("foo-bar", "[static]foo-BAR.FOO-bar", True),
        ("foo:bar/baz", "foo:bar/BAZ", True),
        ("foo:bar/baz@1.0.0", "foo:bar/baz@2.0.0", False),
    ],
)
def test_names_that_are_too_much_alike(a: str, b: str, alike: bool) -> None:
    first, second = parse_extern_name(a), parse_extern_name(b)
    assert first is not None
    assert second is not None
    assert (first.key == second.key) == alike


HOSTILE = [
    "a-" * 5000,
    "a" + "-1" * 5000 + "!",
    "a" + "-1A" * 3000 + "a",
    "a" + "-1" * 3000 + ":b" + "-1" * 3000 + "/c" + "-1" * 3000 + "@",
    "[method]" + "a-a" * 3000 + ".",
    "[method]a" + "-1" * 3000 + ".b" + "-1" * 3000 + "!",
    "a:b/c@" + "1" * 9000 + "!",
    "a:b/c@1.2.3-" + "1." * 5000,
    "a:b/c@1.2.3-" + "1" * 9000 + "!",
    "a:b/c@1.2.3-" + "0a" * 5000 + "!",
    "a:b/c@1.2.3-" + "a-" * 5000 + "!",
    "a:b/c@1.2.3+" + "1." * 5000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=[f"{text[:20]}..." for text in HOSTILE])
def test_a_hostile_name_is_refused_quickly(text: str) -> None:
    started = time.process_time()
    assert parse_extern_name(text) is None
    assert not is_label(text)
    assert time.process_time() - started < 1
