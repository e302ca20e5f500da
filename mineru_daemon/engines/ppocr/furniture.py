"""Headers, footers and page numbers of a single page.

Pure functions: by place, form and what the layout model said. What returns from page to
page is seen by `mineru_daemon.furniture`, when all pages are read.
"""

from __future__ import annotations

from mineru_daemon.furniture import LONGEST, MARGIN, PAGE_NUMBER
from mineru_daemon.furniture import Furniture as Furniture


def on_page(text: str, believed: str, top: float, bottom: float) -> Furniture | None:
    """What a paragraph between `top` and `bottom` (0..1 of the page) can be, if furniture.

    `believed` is the layout model's type. It is furniture if nothing else lies between it
    and the edge of the page; that is for the caller to look at.
    """
    if len(text) > LONGEST:
        return None
    above, below = bottom <= MARGIN, top >= 1 - MARGIN
    if PAGE_NUMBER.match(text) and (above or below or believed in ("header", "footer")):
        return "page_number"
    if believed not in ("header", "footer") or not (above or below):
        return None
    return "header" if above else "footer"
