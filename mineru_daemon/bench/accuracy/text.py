"""How alike two texts are: folding, edit similarity, bags of words, lines found.

Pure functions. Definitions: NED is 1 - Levenshtein distance / length of the longer text;
NID is 1 - (insertions + deletions) / length of both, as opendataloader-bench has it; F1 is
that of the bags of words, or of characters in scripts without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

WIDE_SCRIPTS = re.compile(r"[\u2e80-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]")
"""Ideographs, kana, hangul and full-width forms."""

WIDE_SHARE = 0.2
"""Share of them in a truth from which on it is compared without white space."""

LINE_SIMILARITY = 0.9
"""From which on a line of the truth counts as found."""

SHORT_LINE = 3
"""Characters of a line up to which it has to be found as it is."""

_QUOTES_AND_DASHES = {
    **dict.fromkeys(map(ord, "\u2018\u2019"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2013\u2014\u2212"), "-"),
}
_UNSEEN = dict.fromkeys((0x00AD, 0x200B, 0xFEFF, 0xFFFE))
"""Soft hyphen, zero width space, byte order mark, and PDFium's sign for a hyphen at a line end."""

_ELEMENTS = "table thead tbody tr td th html body p div span b i u sup sub strong em h[1-6]"

Step = tuple[str, str | Callable[[re.Match[str]], str], int]

_MARKS: tuple[Step, ...] = (
    (r"<!--.*?-->", " ", re.DOTALL),
    (r"!\[[^\]]*\]\([^)]*\)", " ", 0),
    (r"\[([^\]]*)\]\([^)]*\)", r"\1", 0),
    (r"</t[dhr]>|<br\s*/?>", " ", 0),
    (rf"</?(?:{'|'.join(_ELEMENTS.split())})\b[^>]*>", " ", 0),
    (r"^\s*\|?[\s:|-]{3,}\|?\s*$", " ", re.MULTILINE),
    (r"^\s*\|(.*)\|\s*$", lambda row: row[1].replace("|", " "), re.MULTILINE),
    (r"^\s{0,3}#{1,6}\s+", "", re.MULTILINE),
    (r"\*\*|__|`", "", 0),
    (r"^\s*[-*+]\s+", "", re.MULTILINE),
    (r"&amp;", "&", 0),
    (r"&lt;", "<", 0),
    (r"&gt;", ">", 0),
    (r"&nbsp;", " ", 0),
)
"""Comments, pictures, links, cells, elements, rules and rows of pipe tables, headings, emphasis,
bullets, entities: in this order, as one uncovers the next."""


def without_marks(text: str) -> str:
    """Text without the marks of Markdown and HTML, with the words that they hold."""
    for pattern, put, flags in _MARKS:
        text = re.sub(pattern, put, text, flags=flags)
    return text


def folded(text: str, *, case: bool = True) -> str:
    """What is compared: NFKC, plain quotes and dashes, no hyphenation, single spaces."""
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES_AND_DASHES | _UNSEEN)
    text = re.sub(r"(?<=[a-z])-\s*\n\s*(?=[a-z])", "", text)
    text = " ".join(text.split())
    return text if case else text.casefold()


def squeezed(text: str, *, case: bool = True) -> str:
    """The same without any white space."""
    return "".join(folded(text, case=case).split())


def words(text: str) -> list[str]:
    """Words without case and without punctuation at their ends."""
    bare = (re.sub(r"^\W+|\W+$", "", word) for word in folded(text, case=False).split(" "))
    return [word for word in bare if word]


def is_wide(text: str) -> bool:
    """Whether a text is to be compared by characters."""
    return len(WIDE_SCRIPTS.findall(text)) > WIDE_SHARE * len(text)


def ned(truth: str, read: str, *, wide: bool, case: bool) -> float:
    """Edit similarity of two texts, 0..1; `wide` compares without white space."""
    fold = squeezed if wide else folded
    return float(Levenshtein.normalized_similarity(fold(truth, case=case), fold(read, case=case)))


def nid(truth: str, read: str) -> float:
    """Similarity by insertions and deletions alone, 0..1."""
    return float(fuzz.ratio(folded(truth), folded(read))) / 100


def f1(truth: Iterable[str], read: Iterable[str]) -> float:
    """F1 of two bags, 0..1."""
    one, other = Counter(truth), Counter(read)
    common = (one & other).total()
    return 2 * common / (one.total() + other.total()) if common else 0.0


def text_f1(truth: str, read: str, *, wide: bool) -> float:
    """F1 of words, or of characters if `wide`; without case."""
    if wide:
        return f1(squeezed(truth, case=False), squeezed(read, case=False))
    return f1(words(truth), words(read))


def line_recall(truth: str, read: str) -> float:
    """Share of the truth's lines that stand somewhere in what was read, 0..1.

    Without case and white space; a stretch that is alike to `LINE_SIMILARITY` will do.
    """
    page = squeezed(read, case=False)
    lines = [line for line in (squeezed(one, case=False) for one in truth.splitlines()) if line]
    found = sum(_is_found(line, page) for line in lines)
    return found / max(1, len(lines))


def _is_found(line: str, page: str) -> bool:
    if line in page:
        return True
    return len(line) > SHORT_LINE and fuzz.partial_ratio(line, page) >= 100 * LINE_SIMILARITY
