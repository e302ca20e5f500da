"""Tables of digital pages: from rulings where there are some, else from columns of words.

Pure geometry over the lines of `pdf_text` and the rulings of `pdf_objects`; no model, no
image. Tables on images are read by `image_tables`. Two-column text must never become a
table: where rulings do not say so, only figures or short entries that stand in columns do.

`rules` -> `lattice` -> `ruled` for what is drawn, `tabular` -> `heads` -> `aligned` for what
is only set in columns; both stand on `words`, `figures`, `columns`, `rows`, `grid`, `cells`.
All lengths are points of the upright page, or em of the table's type where said.
"""

from mineru_daemon.engines.ppocr.digital_tables.finding import find, lines_outside
from mineru_daemon.engines.ppocr.digital_tables.table import Table

__all__ = ["Table", "find", "lines_outside"]
