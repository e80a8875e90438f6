"""Looks up what sites say in the tables ``phrases.toml`` and ``words.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Final

from .phrase_table import phrase_table

MAX_REFUSAL: Final = 500
"""Characters of the longest body with status 200 that is read as a refusal."""

MAX_SEARCHED: Final = 20_000
"""Characters of an error response that are searched for phrases."""

MAX_HELD: Final = 240
"""Characters of a body that are held back because of words that may be those of a refusal."""

MAX_FIRST_WORDS: Final = 10
"""Words of a first sentence that are held back because it may still say what is the matter."""

MAX_NOTICE: Final = 200
"""Characters between the brackets of a notice."""

_SHORT_SENTENCE: Final = 8  # characters of a site's own sentence; a word after it is an answer
_BRIEF: Final = 50  # characters
_LABEL: Final = 5  # words
_LONG: Final = 200  # characters
_LINES: Final = 3
_FIRST_SENTENCES: Final = 3
_SENTENCES_HELD: Final = 2  # sentences
_FIRST_WORDS: Final = 40  # characters after a notice that may explain it
_SHORTEST_BEGINNING: Final = (
    4  # bytes of an opening that hold a body back; fewer begin too many answers
)

_BLANK: Final = " \t\r\n\ufeff"
_SENTENCE: Final = re.compile(
    r".[^.!?。！？\n]*(?:\.(?:(?!\s|$)|(?<=[ (]\d\.)|(?<=[ (]\d\d\.))[^.!?。！？\n]*)*"
    r"(?:[!?。！？\n]+|\.|$)",
    re.DOTALL,
)
_ERROR_PAGE: Final = re.compile(
    r"<(?:!doctype html|html)\b.{0,500}<(?:title|h1)\b[^<>]{0,80}>[^<>]{0,80}"
    r"(?:[45]\d\d|error|timed? ?-?out)",
    re.IGNORECASE | re.DOTALL,
)
_ITEM: Final = re.compile(r"[-*+•] |\d+[.)] |`|\|")
_BEFORE_SUBJECT: Final = re.compile(
    r"[*_\d ]*(?:(?:the|an?|el|la|le|il|o|der|die|das|une?|una|ein|our|se)(?: +|$)|l['’])?"
)
"""A status, and the article of the first word."""

_NUMBER: Final = re.compile(r"\d+")
_ALONE: Final = re.compile(r"(?<![\d.,-])\d{4}(?![.,]\d|\d|\W?\d\d\W)")
"""Four digits that are no part of a date, an amount or an address."""

_LETTER: Final = r"(?:[^\W\d_\u0e00-\u0eff\u2e80-\ua4cf]|[\u064b-\u065f\u0900-\u0dff])"
_WORD: Final = re.compile(
    rf"[\u2e80-\ua4cf]{{1,2}}|[\u0e00-\u0eff]{{1,5}}|{_LETTER}+(?:['’-]{_LETTER}+)*"
)
"""A word; two characters of Chinese, Japanese and Korean count as one, and five of Thai."""

_NOT_IN_LABELS: Final = re.compile(
    r"\d(?![.)] )|^[{\[<]|(?:니다|[어아해세]요|ます|ました|ません|です)\W*$"
)
"""A figure, markup, or the end of a sentence in Korean or Japanese."""

_QUOTATION: Final = re.compile(
    r"“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»|「[^「」]*」|『[^『』]*』|\"[^\"]*\""
)
"""What a text quotes, which it does not say itself."""

_QUESTION: Final = re.compile(r"[?？]\s*$")
_STATUS: Final = re.compile(r"(?<!\d)[45]\d\d(?!\d)")
_SECONDS: Final = re.compile(r"\d\s*(?:s\b|sec|秒|с\b|сек|sek|seg)")


def _folded(text: str) -> str:
    """In lower case, with ``not`` for ``n't`` and ``i`` for the Turkish ``ı`` and ``İ``."""
    lower = text.lower().replace("ı", "i").replace("i\u0307", "i")
    return lower.replace("’", "'").replace("can't", "cannot").replace("n't", " not")


def meaning_in_error(
    status: int, text: str, message: str, sentences: Mapping[str, str]
) -> str | None:
    """The meaning of a phrase in the text of an error response.

    Args:
        status: what the response's status means.
        text: all that it says.
        message: the innermost message in it.
        sentences: the site's own sentences and their meanings.
    """
    folded = _folded(text[:MAX_SEARCHED])
    for sentence, name in sentences.items():
        if sentence and _folded(sentence) in folded:
            return name
    table = phrase_table()
    found = table.of_phrases.found_in(folded)
    for phrase in table.phrases:
        if (status in phrase.statuses or not phrase.statuses) and phrase.is_in(found):
            return phrase.meaning
    first = _sentences(message[:MAX_REFUSAL])[:_FIRST_SENTENCES]
    said = [table.words_of_refusals.found_in(each) for each in first]
    for refusal in table.refusals:
        if status in refusal.statuses and any(map(refusal.is_in, said)):
            return refusal.meaning
    return None


def meaning_of_body(
    text: str, sentences: Mapping[str, str], *, may_be_label: bool = True
) -> str | None:
    """The meaning of a complete body with status 200 that is a refusal; ``None`` for an answer.

    It begins with one of the site's own sentences; or it is short, and what speaks for a refusal
    has the points for it.

    Args:
        text: the body.
        sentences: the site's own sentences and their meanings.
        may_be_label: whether a few words may be the label of a classification.
    """
    body = text.strip(_BLANK)
    for sentence, meaning in sentences.items():
        if sentence and _begins_with(body, sentence):
            return meaning
    return _meaning(body, phrase_table().points["refusal"], may_be_label)


def _meaning(body: str, needed: int, may_be_label: bool) -> str | None:
    """The meaning of a body if what speaks for a refusal has the points for it; else ``None``.

    Args:
        body: the body.
        needed: the points that make it a refusal.
        may_be_label: whether a body of a few words may be the label of a classification.
    """
    table, points = phrase_table(), phrase_table().points
    own = body if '{"' in body else _QUOTATION.sub(_without_words, body)
    sentences = _sentences(own) if len(body) <= MAX_REFUSAL else []
    said = [table.words_of_refusals.found_in(sentence) for sentence in sentences]
    everything = _lists(said)
    if table.subjects.isdisjoint(everything):
        return None  # most answers
    possible = [refusal for refusal in table.in_bodies if refusal.is_in(everything)]
    if not possible:
        return None
    for lists, sentence in zip(said, sentences, strict=True):
        lists |= table.words_besides.found_in(sentence)
    everything = _lists(said)
    around = _points_besides(body, everything)
    if may_be_label and _resembles_label(body, everything):
        around += points["label"]
    parts = list[tuple[Set[str], int]]()
    so_far = set[str]()
    for lists in said[:_FIRST_SENTENCES]:
        so_far |= lists
        parts.append((lists, around + _points_of_explanations(so_far)))
    parts.append((everything, around + _points_of_explanations(everything) + points["apart"]))
    for refusal in possible:
        for part, others in parts:
            if refusal.points + others >= needed and refusal.is_in(part):
                return refusal.meaning
    return None


def _without_words(quotation: re.Match[str]) -> str:
    """A quotation without its words, unless it is a name such as "messages"."""
    words = quotation[0]
    is_name = words.isascii() and words.islower() and " " not in words
    return words if is_name else '""'


def _points_besides(body: str, lists: Set[str]) -> int:
    """What speaks for a refusal (or, below 0, for an answer) apart from what the refusal says."""
    table = phrase_table()
    facts = {
        "advice": "advice" in lists,
        "addressed": "addressed" in lists,
        "explains_before": "explains_before" in lists,
        "figures": any(map(_is_figure, _NUMBER.findall(body))),
        "year": any(map(_is_year, _ALONE.findall(body))),
        "asks": bool(_QUESTION.search(body)),
        "lines": body.count("\n") >= _LINES,
        "answer_forms": bool(table.answer_forms.search(body)),
        "mark": bool(table.marks.search(body)),
        "brief": len(body) <= _BRIEF,
        "long": len(body) > _LONG,
    }
    return sum(table.points[name] for name, holds in facts.items() if holds)


def _is_year(number: str) -> bool:
    """Whether a number may be a year: stories and explanations name years, refusals name dates.

    2000 and 2048 are limits more often.
    """
    return len(number) == 4 and 1500 <= int(number) < 2100 and number not in ("2000", "2048")


def _is_figure(number: str) -> bool:
    """Whether a number may be a limit, a wait or a part of an address: no status and no year."""
    return len(number) > 1 and not (_is_year(number) or _STATUS.fullmatch(number))


def _resembles_label(body: str, lists: Set[str]) -> bool:
    """Whether a body has so few words that it may be a label, such as "Payment failed"."""
    table, folded = phrase_table(), _folded(body)
    if (
        len(body) > _BRIEF
        or not table.not_in_labels.isdisjoint(lists)
        or _NOT_IN_LABELS.search(body)
    ):
        return False
    if folded in table.standard or folded.strip(" .!。！") in table.standard:
        return False
    return len(_WORD.findall(body)) <= _LABEL


def _points_of_explanations(lists: Set[str]) -> int:
    """What speaks against a refusal because it explains, or says when."""
    points = phrase_table().points
    return sum(points[name] for name in ("explains", "conditional") if name in lists)


def _sentences(text: str) -> list[str]:
    """The sentences of a text, folded."""
    found: list[str] = _SENTENCE.findall(_folded(text))
    return found


def _lists_of_sentences(text: str) -> list[set[str]]:
    """The lists that have a word in each sentence."""
    table = phrase_table()
    words = (table.words_of_refusals, table.words_besides)
    return [_lists([each.found_in(sentence) for each in words]) for sentence in _sentences(text)]


def _lists(said: list[set[str]]) -> set[str]:
    """The lists that have a word in any of the sentences."""
    return set[str]().union(*said)


def may_be_refusal(text: str, sentences: Mapping[str, str]) -> bool:
    """Whether a body that begins like this may turn out to be a refusal."""
    body = _folded(text.lstrip(_BLANK))
    if len(body) > MAX_REFUSAL:
        return False
    for sentence in filter(None, sentences):
        if _folded(sentence).startswith(body) or _begins_with(body.rstrip(), sentence):
            return True
    long_enough = len(body.encode()) >= _SHORTEST_BEGINNING
    begins = any(
        body.startswith(opening) or (long_enough and opening.startswith(body))
        for opening in phrase_table().openings.get(body[:1], ())
    )
    if not long_enough:
        return begins
    if begins and len(body) <= MAX_HELD and _may_go_on_to_refuse(body):
        return True
    needed = phrase_table().points["refusal"]
    return _meaning(text.strip(_BLANK), needed, may_be_label=True) is not None


def _may_go_on_to_refuse(body: str) -> bool:
    """Whether a body with the first words of a refusal is short, or says more like one."""
    said = _lists_of_sentences(body)
    if "explains" in _lists(said):
        return False
    if len(said) < _SENTENCES_HELD and len(_WORD.findall(body)) <= MAX_FIRST_WORDS:
        return True
    first, strong = said[:_SENTENCES_HELD], phrase_table().points["together"]
    refusals = phrase_table().refusals
    return any(each.points >= strong and any(map(each.is_in, first)) for each in refusals)


def names(text: str, name: str) -> bool:
    """Whether a text has a word of a list in its beginning."""
    return _has_word_of(name, _folded(text[:MAX_REFUSAL]))


def is_notice_label(content: str) -> bool:
    """Whether a bracket's content is a label, such as "error", of the notice that follows it."""
    return phrase_table().notice_labels.fullmatch(_folded(content)) is not None


def has_notice_label(text: str) -> bool:
    """Whether a text begins with such a label and a colon."""
    label, colon, _ = text[:MAX_NOTICE].replace("：", ":").partition(":")
    return bool(colon) and is_notice_label(label)


def is_notice(content: str, rest: str) -> bool:
    """Whether a bracket's content, and what follows it, tell of a failure behind the site."""
    details = _folded(rest.strip())
    content = _folded(content)
    if is_notice_label(content) and "\n" not in details:
        content, details = details, ""
    if len(content) > MAX_NOTICE:
        return False
    first_words = "" if details.startswith(("{", "<")) else details[:_FIRST_WORDS]
    words = phrase_table().words_besides
    lists = words.found_in(content)
    if "failures" not in lists or "explains" in words.found_in(f"{content} {first_words}"):
        return False
    return bool("sources" in lists or _STATUS.search(content) or _SECONDS.search(content))


def is_glued_failure(text: str) -> bool | None:
    """Whether a text that is glued to an answer, or follows a cut sentence, tells of a failure.

    ``None`` if that cannot be told yet.
    """
    folded = _folded(text)
    page = folded.startswith("<")
    if not page and (len(folded) > MAX_NOTICE or "\n\n" in folded or "`" in folded):
        return False
    first = folded if page else _BEFORE_SUBJECT.sub("", folded, count=1)
    begins = first.startswith(phrase_table().glued)
    if not begins and not any(word.startswith(first) for word in phrase_table().glued):
        return False
    return True if begins and is_last_words(text, cut_off=True) else None


def is_last_words(paragraph: str, cut_off: bool) -> bool:
    """Whether a paragraph after an answer is a refusal, such as "Rate limit exceeded, try later".

    Args:
        paragraph: its text.
        cut_off: whether the text before it ends in the middle of a sentence.
    """
    if cut_off and _ERROR_PAGE.match(paragraph):
        return True
    if _ITEM.match(paragraph):
        return False
    needed = phrase_table().points["last words"]
    needed += phrase_table().points["cut off"] if cut_off else 0
    paragraph = paragraph.strip("-*_>[]【】() \n\r\t")
    return _meaning(paragraph, needed, may_be_label=False) is not None


def goes_on_with_refusal(paragraph: str) -> bool:
    """Whether a paragraph after a refusal belongs to it: it gives advice, or is a refusal too."""
    lists = _lists(_lists_of_sentences(paragraph))
    if len(paragraph) > MAX_REFUSAL or "explains" in lists:
        return False
    needed = phrase_table().points["refusal"]
    return "advice" in lists or _meaning(paragraph, needed, may_be_label=False) is not None


def _has_word_of(name: str, folded: str) -> bool:
    """Whether a word of a list of what is said besides is in a text."""
    return name in phrase_table().words_besides.found_in(folded)


def status_in(text: str) -> int | None:
    """The HTTP status of an error that a short text names, or ``None``."""
    found = _STATUS.search(text)
    return int(found[0]) if found else None


def _begins_with(body: str, sentence: str) -> bool:
    """Whether the body is the sentence, perhaps with advice or details after it."""
    length = len(sentence)
    if _folded(body[:length]) != _folded(sentence):
        return False
    rest = body[length:]
    if not rest:
        return True
    if len(rest) > MAX_REFUSAL or _has_word_of("explains", _folded(rest)):
        return False
    # A word may continue an answer: "Quit" is not "Quit smoking".
    if rest[0].isspace():
        return length >= _SHORT_SENTENCE and _has_word_of("addressed", _folded(rest))
    return not (rest[0].isalnum() and rest[0].isascii())
