"""A page set from top to bottom: read column by column from the right, as it is meant.

The page is self-made: six columns of a text of our own in IPA Mincho, drawn by Pillow with
upright characters and the vertical forms of punctuation.
"""

from __future__ import annotations

from pathlib import Path

from rapidfuzz.distance import Levenshtein

from mineru_daemon import markdown
from mineru_daemon.documents import Limits, open_document
from mineru_daemon.engines import select
from mineru_daemon.reading import read_page
from mineru_daemon.settings import Settings

PAGE = Path(__file__).parent / "data" / "vertical-japanese.png"

COLUMNS = (
    "港の朝はまだ暗く、灯台の光だけが",
    "波の上をゆっくりと回っていた。漁師",
    "たちは網を畳み、古い木の船に積んで",
    "いく。風は北から吹いていて、空には",
    "雲がひとつもない。「今日は沖まで出",
    "よう」と船長が言った。若い男はうな",
)
"""From right to left."""

NOT_TOLD = frozenset("、。「」っ")
"""What the recognition model does not tell on lines that are turned."""


def test_columns_are_read_from_the_right_and_their_characters_recognised() -> None:
    engine = select.load(Settings(engine="ppocr", intra_op_num_threads=1))
    with open_document(PAGE, Limits()) as document:
        page = read_page(engine, document, 0, lambda _stage: None)
    engine.close()
    assert page.error is None
    assert page.rotation == 0
    read = "".join(markdown.of_page(page).split())
    truth = "".join(one for one in "".join(COLUMNS) if one not in NOT_TOLD)
    told = "".join(one for one in read if one not in NOT_TOLD)
    assert Levenshtein.distance(truth, told) <= 3
    assert [block.type for block in page.blocks] == ["text"]
