"""Characters of a PDF page -> words -> lines, without drawing the page.

`frame` tells where things lie on the upright page, `fonts` and `glyphs` read PDFium's text
page, `runs`, `words` and `lines` are pure. What else is on the page is told by
`pdf_objects`, whether its text may be trusted by `textlayer`, in which order lines are
read by others. Callers hold `PDFIUM_LOCK` while `read_glyphs` runs.
"""

from mineru_daemon.engines.ppocr.pdf_text.frame import Frame
from mineru_daemon.engines.ppocr.pdf_text.glyphs import Glyphs, read_glyphs
from mineru_daemon.engines.ppocr.pdf_text.lines import PrintedLine, build_lines
from mineru_daemon.engines.ppocr.pdf_text.words import Word

__all__ = ["Frame", "Glyphs", "PrintedLine", "Word", "build_lines", "read_glyphs"]
