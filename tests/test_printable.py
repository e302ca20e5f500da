"""Text from outside can disturb neither a log nor a terminal."""

from __future__ import annotations

import pytest

from mineru_daemon.printable import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.pdf", "plain name.pdf"),
        ("über 文書 😀.pdf", "über 文書 😀.pdf"),
        ("a\nb", r"a\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("bad\udcff", r"bad\udcff"),
        ("line\u2028sep", r"line\u2028sep"),
    ],
)
def test_what_could_disturb_a_terminal_is_escaped(name, shown):
    assert printable(name) == shown
