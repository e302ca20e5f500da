"""Tables on images: picture of a table and the lines read on it -> cells -> HTML.

A network says which cells there are (`slanet`), the lines say what stands in them
(`pieces`, `matching`), which rows or columns the network missed (`line_grid`), and a second
look what detection missed (`marks`); `reader` runs all of it. Where tables are on a page
is told by `layout`, what the lines say by `recognition` or by the text layer of a PDF;
tables of digital pages are left to `digital_tables`.
"""

from mineru_daemon.engines.ppocr.image_tables.reader import TableReader

__all__ = ["TableReader"]
