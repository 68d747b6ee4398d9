"""Specification of near duplicates, and of the time to find them."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_exam.data.near_duplicates import (
    MAX_COMPARED,
    THRESHOLD,
    Match,
    near_duplicates,
    near_matches,
)

TEXT = "The quick brown fox jumps over the lazy dog while the farmer repairs an old wooden fence."
OTHER = "A lighthouse keeper wrote long letters to his sister in the city about storms and gulls."
CHINESE = "请用一句话解释如何在家里种植番茄,并说明每天需要浇多少水才能让它们健康生长。"
THAI = "กรุณาอธิบายวิธีปลูกมะเขือเทศที่บ้านและบอกว่าควรรดน้ำวันละเท่าไรจึงจะเติบโตแข็งแรง"
ARABIC = "اشرح كيف يمكن زراعة الطماطم في المنزل وكم من الماء تحتاج كل يوم حتى تنمو بصحة جيدة"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _pairs(matches: tuple[Match, ...]) -> list[tuple[int, int]]:
    return [(match.first, match.second) for match in matches]


def _words(draw: random.Random, count: int) -> str:
    """Return words of random letters, which have nothing in common but by chance."""
    return " ".join("".join(draw.choices(LETTERS, k=draw.randint(3, 9))) for _ in range(count))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXT, TEXT.replace("quick", "qiuck")),
        (TEXT, TEXT.replace("lazy ", "")),
        (TEXT, TEXT.replace("jumps", "leaps")),
        (TEXT, TEXT.replace("jumps", "really jumps")),
        (
            "First comes the soup. Then comes the roast.",
            "Then comes the roast. First comes the soup.",
        ),
        (CHINESE, CHINESE.replace("解释", "说明")),
        (CHINESE, CHINESE.replace("请", "")),
        (THAI, THAI.replace("กรุณา", "")),
        (ARABIC, ARABIC.replace("كل يوم", "يوميا")),
    ],
    ids=lambda text: text[-12:],
)
def test_small_edits_are_near_duplicates(one: str, other: str) -> None:
    """A typo, a word dropped, replaced or added, and reordered clauses do not make a new text."""
    (match,) = near_duplicates([OTHER, one, other])
    assert (match.first, match.second) == (1, 2)
    assert THRESHOLD <= match.similarity < 1
    (match,) = near_matches([other], [OTHER, one])
    assert (match.first, match.second) == (0, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXT, OTHER),
        (CHINESE, "昨天晚上我们在海边散步的时候看见了很多漂亮的星星和远处渔船的灯光。"),
        ("What is 12 + 35? Answer with the sum.", "What is 12 + 36? Answer with the sum."),
        ("What is 12 + 35? Give the result.", "What is 12 - 35? Give the result."),
        (f"{TEXT} It is 4.5 m long.", f"{TEXT} It is 45 m long."),
        (f"{TEXT} Room 12.", f"{TEXT} Room 13."),
        (f"{TEXT} Rooms 12, 12 or 13.", f"{TEXT} Rooms 12, 13 or 13."),
        (f"{TEXT} 第１２号", f"{TEXT} 第13号"),
        ("bring the cat", "bring the cart"),
        ("ไก่", "ไข่"),
        ("", "abc"),
    ],
)
def test_other_texts_are_not(one: str, other: str) -> None:
    """Other words, other numbers or other operators between numbers make another text, and so does
    any difference in a short text.
    """
    assert near_duplicates([one, other]) == ()
    assert near_matches([one], [other]) == ()


def test_numbers_may_change_places() -> None:
    """Only the set of numbers counts, not their order or spelling."""
    one, other = f"{TEXT} Rooms 12 and 350.", f"{TEXT} Rooms 350 and 12."
    assert _pairs(near_duplicates([one, other])) == [(0, 1)]
    assert near_duplicates([one, one.replace("12", "１２")]) == (Match(0, 1, 1.0),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is ls?", "what  is LS"),
        ("Hello, world", "hello world!"),
        ("ﬁle", "file"),
        ("a\u200bb", "ab"),
        ("?!", "?!"),
        ("", ""),
        (TEXT, TEXT.upper()),
        (f"« {TEXT} »", TEXT.replace(" ", "\n\t")),
    ],
)
def test_form_alone_is_a_similarity_of_one(one: str, other: str) -> None:
    """Texts that are equal except for case, punctuation, whitespace and Unicode form have
    similarity 1.
    """
    assert near_duplicates([one, "something else", other]) == (Match(0, 2, 1.0),)
    assert near_matches([one], ["something else", other]) == (Match(0, 1, 1.0),)


def test_signs_other_than_punctuation_count() -> None:
    """`C++` is not `C`, one emoji is not another, and vowel marks are letters."""
    assert near_duplicates(["C++", "C", "😀", "😢", "กา", "กี", "?", "!"]) == ()


def test_equal_sets_of_shingles_are_not_equal_texts() -> None:
    """A repeated phrase has the same shingles, and a similarity below 1."""
    phrase = "over and out, my friend, "
    (match,) = near_duplicates([phrase * 2, phrase * 4])
    assert 0.9 < match.similarity < 1


def test_each_text_is_linked_to_all_it_is_near() -> None:
    """The most similar one comes first, and copies are linked to the first of them alone."""
    near, nearer = TEXT.replace("farmer", "fisher"), TEXT.replace("farmer", "fermer")
    last = TEXT.replace("farmer", "fermr")
    assert _pairs(near_duplicates([near, nearer, last, OTHER, TEXT, TEXT])) == [
        (0, 1),
        (1, 2),
        (0, 2),
        (1, 4),
        (0, 4),
        (2, 4),
        (4, 5),
    ]


def test_two_texts_are_linked_by_a_third() -> None:
    """A later text that is near two others, which are not near each other, is linked to both."""
    one = TEXT.replace("The quick", "A")
    two = TEXT.replace("an old", "the")
    assert near_duplicates([one, two]) == ()
    assert sorted(_pairs(near_duplicates([one, two, TEXT]))) == [(0, 2), (1, 2)]


def test_a_text_has_few_matches() -> None:
    """A text is compared with few earlier texts, the nearest first, however many it is near."""
    matches = near_duplicates([f"{TEXT[:-1]} {letter * 3}." for letter in LETTERS[:18]])
    counts = Counter(match.second for match in matches)
    assert max(counts.values()) == MAX_COMPARED
    assert list(counts) == list(range(1, 18))
    assert list(matches) == sorted(matches, key=lambda it: (it.second, -it.similarity, it.first))


def test_the_most_similar_known_text_is_found() -> None:
    """Each text is compared with the known ones, never with the other texts."""
    known = [OTHER, TEXT.replace("quick brown", "quick red"), TEXT.replace("fox", "foxx")]
    assert _pairs(near_matches([OTHER + " Indeed", TEXT, TEXT, "new"], known)) == [
        (0, 0),
        (1, 2),
        (2, 2),
    ]
    assert near_matches([TEXT, TEXT.replace("fox", "foxx")], []) == ()
    assert near_matches([TEXT, TEXT.replace("fox", "foxx")], [OTHER]) == ()
    assert near_matches([], known) == ()
    assert near_matches([OTHER], [TEXT, OTHER, OTHER]) == (Match(0, 1, 1.0),)


def test_one_text_has_no_duplicates() -> None:
    """No text, and one text, have no duplicates."""
    assert near_duplicates([]) == near_duplicates([TEXT]) == ()


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.text(max_size=40), max_size=20), double=st.booleans())
def test_any_text_can_be_compared(texts: list[str], double: bool) -> None:
    """Matches refer to earlier texts, few for each, and are deterministic."""
    given_texts = texts * 2 if double else texts
    matches = near_duplicates(given_texts)
    assert matches == near_duplicates(given_texts)
    assert all(match.first < match.second for match in matches)
    seconds = [match.second for match in matches]
    assert seconds == sorted(seconds)
    assert max(Counter(seconds).values(), default=0) <= MAX_COMPARED
    assert len({(match.first, match.second) for match in matches}) == len(matches)
    if double:
        assert set(range(len(texts), 2 * len(texts))) <= set(seconds)
    assert [match.first for match in near_matches(texts, given_texts)] == list(range(len(texts)))


def test_shared_boilerplate_is_not_evidence() -> None:
    """A long instruction that 50 texts share makes none of them a near duplicate; copies of one of
    them with a typo still are.
    """
    draw = random.Random(1)
    form = _words(draw, 150)
    texts = [f"{form} {_words(draw, 12)}" for _ in range(50)]
    assert near_duplicates(texts) == ()
    edited = texts[7][:-1] + "Q"
    assert _pairs(near_duplicates([*texts, edited])) == [(7, 50)]
    assert _pairs(near_matches([edited, f"{form} {_words(draw, 12)}"], texts)) == [(0, 7)]


def test_half_of_the_rest_besides_boilerplate_must_agree() -> None:
    """Texts with long boilerplate that share a third of the rest are not near duplicates."""
    draw = random.Random(4)
    form = _words(draw, 150)
    texts = []
    for _ in range(30):
        shared = _words(draw, 6)
        texts += [f"{form} {shared} {_words(draw, 6)}" for _ in range(2)]
    assert near_duplicates(texts) == ()


def test_the_similarity_is_the_share_of_common_shingles() -> None:
    """Ideographs count in pairs: ten of them have eleven shingles, the edges included; with one
    more, ten are common of thirteen in total.
    """
    (match,) = near_duplicates(["春眠不觉晓处处闻啼鸟", "春眠不觉晓处处闻啼鸟夜"])
    assert match.similarity == pytest.approx(10 / 13)
    # Of four letters: two words of 5 and 12 letters make 17, three of them hold the last letter.
    (match,) = near_duplicates(["abcde fghijklmnopq", "abcde fghijklmnopqr"])
    assert match.similarity == pytest.approx(16 / 19)


def test_the_likeliest_partner_is_compared() -> None:
    """Among six texts that are half similar, a copy's own text is found."""
    draw = random.Random(5)
    texts, copies = [], []
    for _ in range(100):
        base = [_words(draw, 1) for _ in range(20)]
        for _ in range(6):
            words = list(base)
            for place in draw.sample(range(20), 4):
                words[place] = _words(draw, 1)
            texts.append(" ".join(words))
        copies.append(" ".join(words[:-1]))
    matches = near_matches(copies, texts)
    assert [match.second for match in matches] == list(range(5, 600, 6))


def test_texts_that_fill_in_a_form_are_not_near_duplicates() -> None:
    """Sums made from one template are different texts."""
    texts = [f"What is {one} + {other}?\n{one + other}" for one in range(60) for other in range(60)]
    assert near_duplicates(texts) == ()


def test_every_planted_copy_is_found_among_thousands() -> None:
    """Of 500 copies with one word replaced among 6,000 texts at least 99% are found, each with its
    own text, and no other text is named.
    """
    draw = random.Random(2)
    texts = [_words(draw, 20) for _ in range(6000)]
    copies = []
    for text in texts[:500]:
        words = text.split()
        words[draw.randrange(20)] = "other"
        copies.append(" ".join(words))
    pairs = _pairs(near_duplicates([*texts, *copies]))
    assert all(second - 6000 == first for first, second in pairs)
    assert len(pairs) >= 495
    assert _pairs(near_matches(copies, texts)) == [(n - 6000, m) for m, n in pairs]


def _pathological(name: str) -> list[str]:
    """Return 20,000 texts that are hard to search."""
    draw = random.Random(3)
    form, count = _words(draw, 25), 20_000
    if name == "all the same":
        return [form] * count
    if name == "all but one word":
        return [f"{form} {_words(draw, 1)}" for _ in range(count)]
    if name == "fifty templates":
        forms = [_words(draw, 25) for _ in range(50)]
        return [f"{forms[index % 50]} {_words(draw, 1)}" for index in range(count)]
    if name == "one in twenty shares an instruction":
        long = _words(draw, 300)
        return [("" if index % 20 else long) + _words(draw, 20) for index in range(count)]
    return ["a" * (1 + index % 2000) + str(index) for index in range(count)]


@pytest.mark.parametrize(
    "name",
    [
        "all the same",
        "all but one word",
        "fifty templates",
        "one in twenty shares an instruction",
        "one letter",
    ],
)
def test_hard_files_take_seconds(name: str) -> None:
    """Files in which everything is similar to everything are not compared pair by pair."""
    texts = _pathological(name)
    started = time.process_time()
    near_duplicates(texts)
    assert time.process_time() - started < 20  # 0.1 to 2 s on an idle core; pairwise: hours
