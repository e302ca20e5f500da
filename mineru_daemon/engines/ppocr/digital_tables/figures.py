"""Figures: entries that stand in columns and do not run over several lines.

What stands where a figure would (dashes, ticks, n/a) counts as one.
"""

from __future__ import annotations

import re

LONGEST_FIGURE = 40
_FIGURE = re.compile(
    r"[\s(\[<>~\u2248$\u20ac\u00a3\u00a5+\-\u2010-\u2015\u2212\u00b1]*"
    r"(\d[\d\s.,:/%\u2030\u00b0'\u2019+\-\u2010-\u2015\u2212\u00b1()\u00d7x*\u2020\u2021$\u20ac]*[a-zA-Z]{0,2}\)?\*{0,3}"
    r"|\.{2,}|n\.?/?a\.?|nil|none|yes|no|ref|[*x\u2713\u2717\u2022\u2014\u2013-]+)[\s\])*]*",
    re.IGNORECASE,
)
BEFORE_FIGURE = frozenset(
    {"$", "\u20ac", "\u00a3", "\u00a5", "US$", "(", "$(", "-", "\u2013", "<", ">"}
)
AFTER_FIGURE = frozenset({"%", ")", "%)", ")%", "*", "**", "***", "\u2020", "\u2021"})


def is_figure(text: str) -> bool:
    """Whether an entry is a figure, or stands where one would; entries of forms are short."""
    return len(text) <= LONGEST_FIGURE and _FIGURE.fullmatch(text) is not None
