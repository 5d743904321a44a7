"""Requests that another site makes are refused."""

import pytest

from segjax.serve.guards import refusal


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:7860", None),
        ("localhost", "http://localhost"),
        ("127.0.0.1:7860", "http://127.0.0.1:7860"),
        ("[::1]:7860", "http://[::1]:7860"),
        ("192.168.0.7:80", None),
        ("LOCALHOST:7860", None),
        ("workstation:7860", "https://workstation:7860"),
    ],
)
def test_own_names_and_addresses_pass(host, origin):
    assert refusal(host, origin, names={"workstation"}) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example:7860",
        "127.1:7860",
        "evil@localhost.example",
        "workstation.example",
        "[::1",
        "",
        None,
    ],
)
def test_other_names_are_refused(host):
    assert "expected localhost" in refusal(host, None, names={"workstation"})


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:8000",
        "http://localhost",
        "http://127.0.0.1:7860",
        "null",
        "",
        "http://[",
    ],
)
def test_other_origins_are_refused(origin):
    assert refusal("localhost:7860", origin, names=()) is not None
