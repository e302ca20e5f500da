"""Scripts: how characters of the world's writing are set.

Pure functions on single characters. What follows for words, lines and cells is left to
those who put them together.
"""

from __future__ import annotations

import functools
import unicodedata


@functools.lru_cache(4096)
def is_wide(character: str) -> bool:
    """Whether a character is of a script written without spaces, or its punctuation."""
    return unicodedata.east_asian_width(character) in "WF" and not (
        "\uac00" <= character <= "\ud7a3"
    )


def is_square(text: str) -> bool:
    """Set in a square: ideographs, kana, hangul, full-width forms."""
    return (
        "\u2e80" <= text <= "\u9fff"
        or "\uac00" <= text <= "\ud7af"
        or ("\uf900" <= text <= "\ufaff" or "\uff00" <= text <= "\uffef" or text >= "\U00020000")
    )


def is_right_to_left(text: str) -> bool:
    """Hebrew, Arabic, and their relatives and presentation forms."""
    return (
        "\u0590" <= text <= "\u08ff" or "\ufb1d" <= text <= "\ufdff" or "\ufe70" <= text <= "\ufefc"
    )
