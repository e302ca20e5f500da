"""The small steps from which crash safety is built."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mineru_daemon import storage
from mineru_daemon.storage import exchange, first_free, identity, numbered, rename_noreplace


def test_rename_never_replaces(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    with pytest.raises(FileExistsError):
        rename_noreplace(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "old"
    rename_noreplace(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "new"


def test_rename_never_replaces_where_the_kernel_call_is_missing(tmp_path, monkeypatch):
    class NoCall:
        pass

    monkeypatch.setattr(storage, "_libc", NoCall())
    test_rename_never_replaces(tmp_path)


def test_rename_never_replaces_a_dangling_link(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        rename_noreplace(tmp_path / "a", tmp_path / "b")


def test_two_folders_take_each_others_name(tmp_path):
    for name in ("fresh", "present"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    exchange(tmp_path / "fresh", tmp_path / "present")
    assert (tmp_path / "present" / "file").read_text() == "fresh"
    assert (tmp_path / "fresh" / "file").read_text() == "present"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "present"]


def test_two_folders_take_each_others_name_where_the_kernel_call_is_missing(tmp_path, monkeypatch):
    class NoCall:
        pass

    monkeypatch.setattr(storage, "_libc", NoCall())
    test_two_folders_take_each_others_name(tmp_path)


def test_the_digest_tells_how_far_it_is(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    told: list[int] = []
    assert storage.digest(tmp_path / "file", told.append) == hashlib.sha256(content).hexdigest()
    assert sum(told) == len(content)
    assert len(told) > 1


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("scan.pdf", 1, "scan.pdf"),
        ("scan.pdf", 2, "scan-2.pdf"),
        ("scan", 3, "scan-3"),
        (".pdf", 2, ".pdf-2"),
        ("a b\n.tar.gz", 2, "a b\n.tar-2.gz"),
    ],
)
def test_second_names_are_numbered_before_the_suffix(name, number, expected):
    assert numbered(name, number, 255) == expected


@pytest.mark.parametrize(
    "name",
    ["x" * 251 + ".pdf", "ü" * 125 + ".pdf", "😀" * 62 + ".pdf", "." + "y" * 254,
     os.fsdecode(b"\xff" * 251 + b".pdf"), "z" + "." + "s" * 253],
)  # fmt: skip
@pytest.mark.parametrize("number", [1, 2, 12345])
def test_long_names_fit_and_stay_apart(name, number):
    short = numbered(name, number, 250)
    assert len(os.fsencode(short)) <= 250
    assert short != numbered(name, number + 1, 250)
    other = "a" + name[1:]
    assert numbered(other, number, 250) != short
    if "\udcff" not in name:
        short.encode("utf-8")  # cut between characters, not within one


@pytest.mark.parametrize("taken", [0, 1, 2, 5, 10_000])
def test_a_free_number_is_found_in_few_looks(taken):
    looks = []

    def is_free(number):
        looks.append(number)
        return number > taken

    assert first_free(is_free) == taken + 1
    assert len(looks) <= 30


def test_an_identity_changes_with_content_time_and_replacement(tmp_path):
    file = tmp_path / "f"
    file.write_text("a")
    first = identity(file)
    os.utime(file, ns=(1, 1))
    second = identity(file)
    (tmp_path / "g").write_text("a")
    os.utime(tmp_path / "g", ns=(1, 1))
    (tmp_path / "g").replace(file)
    third = identity(file)
    assert len({first, second, third}) == 3
    assert identity(tmp_path / "none") is None
    assert identity(file / "below-a-file") is None


def test_a_writer_is_seen_by_the_lease(tmp_path):
    file = tmp_path / "f"
    file.write_text("a")
    assert storage.open_for_writing_elsewhere(file) is False
    with file.open("a"):
        assert storage.open_for_writing_elsewhere(file) is True
    assert storage.open_for_writing_elsewhere(file) is False


def test_a_file_that_a_file_server_caches_writes_for_counts_as_open(tmp_path):
    """The server holds a write lease, and is given time to call in what its client has."""
    file = tmp_path / "f"
    file.write_text("a")
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, signal, sys\n"
            "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
            "fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
            "print('held', flush=True)\nsys.stdin.read()",
            str(file),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout
    assert server.stdout.readline() == b"held\n"
    assert storage.open_for_writing_elsewhere(file) is True
    server.communicate()
    assert storage.open_for_writing_elsewhere(file) is False


def test_where_leases_are_refused_nothing_is_known(tmp_path, monkeypatch):
    file = tmp_path / "f"
    file.write_text("a")

    def refuse(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert storage.open_for_writing_elsewhere(file) is None


def test_a_fifo_does_not_hang_the_question(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    storage.open_for_writing_elsewhere(tmp_path / "pipe")


def test_a_copy_is_compared_with_its_original(tmp_path, monkeypatch):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(os.urandom(3_000_000))
    os.utime(source, ns=(5, 7))
    assert storage.copy_durably(source, target) == storage.digest(source)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mtime_ns == 7
    monkeypatch.setattr(storage, "digest", lambda _path: "something else")
    with pytest.raises(OSError, match="differs"):
        storage.copy_durably(source, tmp_path / "c")


def test_the_lock_is_exclusive_and_ends_with_its_block(tmp_path):
    with storage.locked(tmp_path) as first:
        assert first
        with storage.locked(tmp_path) as second:
            assert not second
    with storage.locked(tmp_path) as third:
        assert third


def test_replacing_a_text_leaves_no_second_file(tmp_path):
    path = tmp_path / "state.json"
    storage.replace_text(path, "1", durable=True)
    storage.replace_text(path, "2", durable=False)
    assert path.read_text() == "2"
    assert [one.name for one in Path(tmp_path).iterdir()] == ["state.json"]
