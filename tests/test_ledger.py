"""The ledger remembers files by identity, and by path and content."""

from __future__ import annotations

import os

import pytest

from mineru_daemon.ledger import Ledger
from mineru_daemon.storage import Identity

FILE = Identity(1, 2**64 - 5, 100, 10**18)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite3")
    yield opened
    opened.close()


def test_a_file_is_known_by_its_identity_whatever_its_name(ledger):
    assert not ledger.has(FILE)
    ledger.record("a/scan.pdf", FILE, "abc", "job", "success")
    assert ledger.has(FILE)
    for change in ({"device": 2}, {"inode": 3}, {"size": 4}, {"mtime_ns": 5}):
        assert not ledger.has(FILE._replace(**change))


def test_content_is_known_only_at_its_path(ledger):
    ledger.record("a", FILE, "abc", "job", "success")
    assert ledger.has_content("a", "abc")
    assert not ledger.has_content("b", "abc")
    assert not ledger.has_content("a", "abd")


def test_it_survives_closing_and_odd_names(tmp_path):
    name = os.fsdecode(b"caf\xe9\n.pdf")
    first = Ledger(tmp_path / "l")
    first.record(name, FILE, "abc", "job", "success")
    first.record(name, FILE, "abc", "job", "success")
    first.close()
    second = Ledger(tmp_path / "l")
    assert second.has_content(name, "abc")
    second.close()
