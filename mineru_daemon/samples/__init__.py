"""Two small documents to try the daemon with, and every word that is in them.

The files lie beside this module and were made from these texts by `make`; the firm, its
people and its orders are invented. What was read can be compared with what is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PDF_NAME = "invoice-and-note.pdf"
SCREENSHOT_NAME = "order-desk.png"


@dataclass(frozen=True)
class Part:
    """A piece of a page, in reading order."""

    kind: Literal["title", "text", "list", "table"]
    lines: tuple[str, ...] = ()
    """As broken on the page; the entries of a list are one line each."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Cells of a table, the head first."""

    @property
    def text(self) -> str:
        """The piece as running text; a table cell by cell."""
        return " ".join((*self.lines, *(cell for row in self.rows for cell in row)))


PDF_PAGES: tuple[tuple[Part, ...], ...] = (
    (
        Part("title", ("Invoice 4711",)),
        Part(
            "text",
            (
                "Alder Bay Instruments, Quay Street 12, Port Alder",
                "To: Northfield Observatory, Hill Road 3, Northfield",
                "Date: 17 March 2025",
            ),
        ),
        Part(
            "text",
            (
                "Thank you for your order of 3 March. The goods left our workshop on 14 March",
                "and should have reached you by now. Please check the two barometers against",
                "your reference within ten days and tell us if they differ by more than 0.3 hPa.",
            ),
        ),
        Part("title", ("Goods and prices",)),
        Part(
            "table",
            rows=(
                ("Article", "Description", "Quantity", "Unit price", "Amount"),
                ("B-204", "Aneroid barometer, brass", "2", "184.50", "369.00"),
                ("C-017", "Chart paper, roll of 25 m", "12", "6.25", "75.00"),
                ("S-090", "Insured shipping", "1", "58.00", "58.00"),
                ("", "Total without tax", "", "", "502.00"),
                ("", "Tax 19 %", "", "", "95.38"),
                ("", "To pay", "", "", "597.38"),
            ),
        ),
        Part("title", ("Payment",)),
        Part(
            "text",
            (
                "Please pay within 30 days to account 0093 5521 at Harbour Savings Bank and",
                "give the number of this invoice. From the 31st day on we charge 5 % a year.",
            ),
        ),
    ),
    (
        Part("title", ("Meeting note: winter catalogue",)),
        Part(
            "text",
            (
                "Port Alder, 21 March 2025, 9:30 to 10:45. Present: Ingrid Solheim (chair),",
                "Tomas Brandt, Yuki Arai. Excused: Paul Okafor.",
            ),
        ),
        Part("title", ("What was decided",)),
        Part(
            "list",
            (
                "1. The catalogue gets 48 pages instead of 64.",
                "2. Prices are printed on a separate sheet.",
                "3. Tomas asks two printers for offers by 4 April.",
            ),
        ),
        Part("title", ("Open questions",)),
        Part(
            "text",
            (
                "Yuki doubts that the new hygrometer will be ready in time: its certificate is",
                "not expected before June. If it is late, page 12 will show the older model with",
                "a remark. Ingrid speaks with the laboratory and reports at the next meeting.",
            ),
        ),
        Part("title", ("Next meeting",)),
        Part("text", ("Friday, 4 April 2025, 9:30, in the small workshop.",)),
    ),
)
"""What the PDF holds: an invoice, and a note of a meeting."""

WINDOW_TITLE = "Order desk - Alder Bay Instruments"
MENU = ("File", "Edit", "View", "Orders", "Help")
FOLDERS = ("New orders", "Waiting for parts", "Ready to ship", "Shipped", "Archive")
ORDERS: tuple[tuple[str, ...], ...] = (
    ("Number", "Customer", "Due", "Amount", "State"),
    ("2061", "Northfield Observatory", "28 March", "597.38", "Shipped"),
    ("2064", "Kestrel Sailing School", "2 April", "1,240.00", "Ready to ship"),
    ("2065", "Museum of Navigation", "9 April", "86.40", "Waiting for parts"),
    ("2067", "Dr. Helena Voss", "11 April", "312.75", "New"),
    ("2068", "Lighthouse Trust", "15 April", "2,075.50", "New"),
)
DETAIL_TITLE = "Order 2065: Museum of Navigation"
DETAIL = (
    "One ship's clock, to be repaired and cleaned.",
    "The mainspring is broken; a new one was ordered on 18 March.",
    "The museum asks for a photograph of the dial before and after.",
)
BUTTONS = ("Print label", "Write message", "Close order")
STATUS = "5 orders shown, 2 of them new. Last change: 21 March 2025, 11:07"

SCREENSHOT_TEXTS: tuple[str, ...] = (
    WINDOW_TITLE,
    *MENU,
    *FOLDERS,
    *(cell for row in ORDERS for cell in row),
    DETAIL_TITLE,
    *DETAIL,
    *BUTTONS,
    STATUS,
)
"""What the screenshot holds, piece by piece."""


def paths() -> tuple[Path, ...]:
    """The sample files: the PDF, then the screenshot."""
    folder = Path(__file__).parent
    return folder / PDF_NAME, folder / SCREENSHOT_NAME
