"""Nearly equal texts, found without comparing every text with every other.

A text is reduced to the set of its shingles, runs of a few characters, which also suits languages
without spaces; the similarity of two texts is that of their sets (Jaccard). Pairs worth comparing
come from MinHash signatures (Broder, "On the resemblance and containment of documents", 1997) in
bands (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4). Texts with
different numbers are never similar. docs/decisions/0007-near-duplicates.md has the measurements.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

THRESHOLD, TELLING_THRESHOLD = 0.76, 0.5
"""The least Jaccard similarity of near duplicates: of all their shingles, and of the telling ones,
which are those that are not boilerplate of the file."""
MIN_SHINGLES = 8
"""With fewer telling shingles, a text is only compared for equality."""
SHINGLE_LENGTH = 4
"""Characters of a shingle; two if it begins with an ideograph, a kana or a Hangul syllable."""
N_BANDS, ROWS_PER_BAND = 24, 3
"""Three signature values per band: a pair of similarity 0.5 meets in one with probability 96%, a
pair of 0.6 with 99.7%."""
MAX_COMPARED = 4
"""A text meets this many first texts of its bucket, and is compared exactly with as many."""
MIN_COMMON_ROWS, COMMON_SHARE = 20, 0.02
"""A shingle of more than 20 texts and of more than 2% of them is boilerplate."""

_FIRST_WIDE = 0x2E80  # from here on nearly every character is a word or a syllable
_CHUNK = 2**19  # characters or shingles at a time, so that they fit the processor's cache
_TABLE_BITS = 22
_NUMBER = re.compile(r"\d+|(?<=\d)\s*[-+*/^<>=×÷]\s*(?=\d)")

_U32: TypeAlias = NDArray[np.uint32]
_U64: TypeAlias = NDArray[np.uint64]
_Int: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """Two similar texts: their indices, and their similarity from 0 to 1.

    `similarity` is 1 exactly if the texts are equal except for case, punctuation and whitespace.
    """

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True)
class _Shingles:
    """Sets of shingles: text i has `hashes[starts[i]:starts[i + 1]]`, each once, ascending."""

    hashes: _U32
    starts: _Int

    @property
    def sizes(self) -> _Int:
        return np.diff(self.starts)


def near_duplicates(texts: Sequence[str]) -> tuple[Match, ...]:
    """Match each text with the earlier ones that it is nearly equal to.

    `first` is the index of the earlier text, `second` of the later; in the order of `second`, the
    most similar first, at most `MAX_COMPARED` for each. Texts that are equal except for case,
    punctuation and whitespace have similarity 1 and match only their first occurrence; callers
    remove exact duplicates first. Texts that are similar through a third one are found by joining
    the matches.
    """
    normal = [_normal(text) for text in texts]
    first: dict[str, int] = {}
    matches = [
        Match(earlier, index, 1.0)
        for index, text in enumerate(normal)
        if (earlier := first.setdefault(text, index)) != index
    ]
    places = list(first.values())
    numbers = _numbers([texts[index] for index in places])
    for one, other, similarity in _pairs(list(first), numbers, 0):
        matches.append(Match(places[one], places[other], similarity))
    return tuple(sorted(matches, key=lambda match: match.second))  # stable: the best stay first


def near_matches(texts: Sequence[str], known: Sequence[str]) -> tuple[Match, ...]:
    """Match each text with the most similar known one, if it is nearly equal to any.

    `first` is an index of `texts`, `second` of `known`; in the order of `first`, at most one match
    for each. A text equal to a known one has similarity 1, as in `near_duplicates`.
    """
    if not known:
        return ()
    first: dict[str, int] = {}
    for index, text in enumerate(known):
        first.setdefault(_normal(text), index)
    normal = [_normal(text) for text in texts]
    best = {n: Match(n, first[text], 1.0) for n, text in enumerate(normal) if text in first}
    others = [index for index, text in enumerate(normal) if text not in first]
    places = list(first.values())
    numbers = _numbers([*(known[index] for index in places), *(texts[index] for index in others)])
    rows = [*first, *(normal[index] for index in others)]
    for one, other, similarity in _pairs(rows, numbers, len(first)):
        index = others[other - len(first)]
        best.setdefault(index, Match(index, places[one], similarity))
    return tuple(best[index] for index in sorted(best))


class _Characters(dict[int, str | None]):
    """A table for `str.translate`, filled as characters are met."""

    def __missing__(self, code: int) -> str | None:
        category = unicodedata.category(chr(code))
        kept = " " if category[0] in "PZ" or category == "Cc" else chr(code)
        self[code] = None if category == "Cf" else kept
        return self[code]


_CHARACTERS = _Characters()


def _normal(text: str) -> str:
    """Drop case, punctuation and invisible characters; separate words by one space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_CHARACTERS).split()) or folded


def _numbers(texts: Sequence[str]) -> _U64:
    """Return an id per text, equal for texts with the same numbers and operators between them."""
    known: dict[tuple[str, ...], int] = {}
    keys = []
    for text in texts:
        found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
        keys.append(known.setdefault(tuple(sorted(map(str.strip, found))), len(known)))
    return np.array(keys, np.uint64)


def _pairs(texts: list[str], numbers: _U64, n_known: int) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier, later, similarity) of similar texts; for each later text, the best first.

    With `n_known` the earlier is one of the first `n_known` texts, and the later is not.
    """
    shingles = _shingles(texts)
    telling = _telling(shingles)
    one, other = _candidates(telling, numbers, n_known)
    similar = _jaccard(telling, one, other) >= TELLING_THRESHOLD
    one, other = one[similar], other[similar]
    similarity = _jaccard(shingles, one, other)
    near = np.flatnonzero(similarity >= THRESHOLD)
    # Of each later text's partners the most similar comes first, of equals the earliest.
    for index in near[np.lexsort((one[near], -similarity[near], other[near]))].tolist():
        # Different texts can have equal sets (a repeated phrase): their similarity stays below 1.
        yield int(one[index]), int(other[index]), min(float(similarity[index]), 0.999)


def _chunks(sizes: _Int) -> Iterator[slice]:
    """Yield consecutive items of about `_CHUNK` in total, at least one item at a time."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        limit = ends[start] - sizes[start] + _CHUNK
        stop = max(start + 1, int(np.searchsorted(ends, limit, "right")))
        yield slice(start, stop)
        start = stop


def _mixed(values: _U64) -> _U64:
    """Spread the bits of 64-bit numbers evenly (finalizer of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _shingles(texts: list[str]) -> _Shingles:
    """Return the shingles of each text as 32-bit hashes."""
    parts, sizes = [np.empty(0, np.uint32)], [np.zeros(1, np.int64)]
    for part in _chunks(np.fromiter(map(len, texts), np.int64, len(texts))):
        hashes, owners = _windows(texts[part])
        keys = np.sort(owners << 32 | hashes)
        keys = keys[np.flatnonzero(np.diff(keys, prepend=-1))]
        parts.append(keys.astype(np.uint32))
        sizes.append(np.bincount(keys >> 32, minlength=part.stop - part.start))
    return _Shingles(np.concatenate(parts), np.cumsum(np.concatenate(sizes)))


def _windows(texts: list[str]) -> tuple[_U32, _Int]:
    """Return the hash of each shingle, and the index of its text."""
    padded = "".join(f" {text} " for text in texts) + " " * SHINGLE_LENGTH
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), np.uint32)
    n_windows = len(codes) - SHINGLE_LENGTH
    total = _mixed(codes[:n_windows].astype(np.uint64))
    wide = codes[:n_windows] >= _FIRST_WIDE
    for offset in range(1, SHINGLE_LENGTH):
        following = np.where(wide & (offset > 1), 0, codes[offset : n_windows + offset])
        total = total * np.uint64(0x9E3779B97F4A7C15) + following
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 2
    ends = np.repeat(np.cumsum(lengths), lengths)
    inside = np.arange(n_windows) + np.where(wide, 2, SHINGLE_LENGTH) <= ends
    owners = np.repeat(np.arange(len(texts)), lengths)
    return (_mixed(total[inside]) >> np.uint64(32)).astype(np.uint32), owners[inside]


def _telling(shingles: _Shingles) -> _Shingles:
    """Drop the shingles of so many texts that they are boilerplate ("Translate to French:").

    They are counted in a table by the hash's upper bits: a rare shingle is taken for a common one
    if these agree, which happens to one in thousands.
    """
    cells = shingles.hashes >> np.uint32(32 - _TABLE_BITS)
    counts = np.zeros(2**_TABLE_BITS, np.int64)
    for start in range(0, len(cells), len(counts)):
        counts += np.bincount(cells[start : start + len(counts)], minlength=len(counts))
    kept = (counts <= max(MIN_COMMON_ROWS, COMMON_SHARE * len(shingles.sizes)))[cells]
    before = np.concatenate([[0], np.cumsum(kept, dtype=np.uint32)])
    return _Shingles(shingles.hashes[kept], before[shingles.starts].astype(np.int64))


def _candidates(telling: _Shingles, numbers: _U64, n_known: int) -> tuple[_Int, _Int]:
    """Return (earlier, later) of pairs that agree in a band, the best few for each later text."""
    rows = np.flatnonzero(telling.sizes >= MIN_SHINGLES)
    signatures = _signatures(telling, rows)
    found = [np.empty(0, np.int64)]
    for band in range(N_BANDS):
        keys = numbers[rows]
        for value in range(band * ROWS_PER_BAND, (band + 1) * ROWS_PER_BAND):
            keys = _mixed(keys + signatures[:, value] + np.uint64(0x9E3779B97F4A7C15))
        found.append(_bucket_pairs(keys))
    pairs = np.unique(np.concatenate(found))
    one, other = pairs // max(len(rows), 1), pairs % max(len(rows), 1)
    if n_known:
        wanted = (rows[one] < n_known) & (rows[other] >= n_known)
        one, other = one[wanted], other[wanted]
    agreement = np.zeros(len(one), np.int64)
    for part in _chunks(np.full(len(one), signatures.shape[1])):
        agreement[part] = (signatures[one[part]] == signatures[other[part]]).sum(axis=1)
    order = np.lexsort((one, -agreement, other))
    order = order[_rank(other[order]) < MAX_COMPARED]
    return rows[one[order]], rows[other[order]]


def _rank(keys: _Int | _U64) -> _Int:
    """Return the number of equal keys before each; equal keys are adjacent."""
    place = np.arange(len(keys))
    is_new = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
    return place - np.maximum.accumulate(np.where(is_new, place, 0))


def _bucket_pairs(keys: _U64) -> _Int:
    """Pair each text with the first texts of its bucket, as earlier × number of texts + later."""
    order = np.argsort(keys, kind="stable")
    rank = _rank(keys[order])
    pairs = []
    for member in range(MAX_COMPARED):
        later = np.flatnonzero(rank > member)
        pairs.append(order[later - rank[later] + member] * len(keys) + order[later])
    return np.concatenate(pairs)


def _signatures(shingles: _Shingles, rows: _Int) -> _U32:
    """Return the MinHash signatures, (len(rows), values of a signature)."""
    n_values = N_BANDS * ROWS_PER_BAND
    constants = _mixed(np.arange(1, 2 * n_values + 1, dtype=np.uint64)).astype(np.uint32)
    signatures = np.empty((len(rows), n_values), np.uint32)
    for part in _chunks(shingles.sizes[rows]):
        hashes, starts = _gathered(shingles, rows[part])
        for index in range(n_values):
            permuted = hashes * (constants[2 * index] | np.uint32(1)) + constants[2 * index + 1]
            signatures[part, index] = np.minimum.reduceat(permuted, starts[:-1])
    return signatures


def _gathered(shingles: _Shingles, rows: _Int) -> tuple[_U32, _Int]:
    """Return the hashes of some texts, concatenated, and the start of each (and the end)."""
    sizes = shingles.sizes[rows]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    places = np.arange(starts[-1]) + np.repeat(shingles.starts[rows] - starts[:-1], sizes)
    return shingles.hashes[places], starts


def _jaccard(shingles: _Shingles, one: _Int, other: _Int) -> NDArray[np.float64]:
    """Return |A ∩ B| / |A ∪ B| of each pair of texts."""
    similarity = np.empty(len(one))
    for part in _chunks(shingles.sizes[one] + shingles.sizes[other]):
        sides = [_gathered(shingles, side[part]) for side in (one, other)]
        keys = [np.repeat(np.arange(len(at) - 1), np.diff(at)) << 32 | own for own, at in sides]
        merged = np.sort(np.concatenate(keys), kind="stable")  # two ascending runs: one merge
        both = merged[1:][merged[1:] == merged[:-1]] >> 32
        n_both = np.bincount(both, minlength=part.stop - part.start)
        similarity[part] = n_both / (np.diff(sides[0][1]) + np.diff(sides[1][1]) - n_both)
    return similarity
