"""Text from outside made harmless for logs, terminals and sentences.

Apart from the log on purpose: the process that opens documents needs this and nothing of a log.
"""

from __future__ import annotations

import unicodedata

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
"""Control, format (bidirectional overrides among them), surrogates, line separators."""


def printable(text: str) -> str:
    """`text` with every character that could disturb a log or a terminal escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in _UNSAFE_CATEGORIES
        else char
        for char in text
    )
