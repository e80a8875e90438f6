"""Properties of refusals, notices and failures, beyond the cases of the corpus."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree import Site
from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree._protocol.responses import error_in_body
from aichatfree.errors import APIError

from .bodies import steady

CORPUS: Final = Path(__file__).parent.parent / "corpus"
CASES: Final = [
    case
    for path in sorted(CORPUS.glob("*.toml"))
    for case in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
    if case.get("status", 200) == 200 and "headers" not in case
]
FAILURES: Final = [
    case
    for case in CASES
    if "error" in case and "".join(case.get("chunks", ())) and "needs_chunks" not in case
]
ANSWERS: Final = [case for case in CASES if "error" not in case]
PLAIN_ANSWERS: Final = [
    case for case in ANSWERS if "text" not in case and not case.get("body", "").startswith("<")
]
#: Answers that quote a failure, so that some of their beginnings end like a failed answer.
QUOTES_A_FAILURE: Final = {
    "a JSON array in a code block, and a sentence after it",
    "a log at the end",
    "an array of strings that are error messages",
    "brackets explained",
    "O erro 500 (Internal Server Error) indica que algo deu errad",
    "Internal Server Error → 500",
    "See the section on proxies.504 Gateway Timeout means that th",
    "Use `^(?:\\S+ ){2}\\[?(ERROR|FATAL)\\]?:? (.+)$` with the multi",
}
REFUSALS: Final = [
    case
    for case in FAILURES
    if "text" not in case
    and case.get("chunks", [""])[0][:1].isalpha()
    and "{" not in case["chunks"][0]
    and "\n " not in case["chunks"][0]  # a stack trace
    and case["error"] not in ("StreamInterruptedError", "ProtocolError")
]


def decoded(chunks: list[bytes], *, framed: bool, complete: bool = False) -> tuple[str, str | None]:
    """The text of a body, and the name of its error's class."""
    decoder = ReplyDecoder(framed=framed, site=Site(), complete=complete)
    try:
        text = "".join([decoder.feed(chunk) for chunk in chunks])
        rest, error = decoder.finish()
    except APIError as web_page:
        return "", type(web_page).__name__
    return text + rest, type(error).__name__ if error else None


@st.composite
def cut_bodies(draw: st.DrawFn, cases: list[dict[str, Any]]) -> tuple[dict[str, Any], list[bytes]]:
    """A case, and its body cut into chunks anywhere."""
    case = draw(st.sampled_from(cases))
    body = "".join(case.get("chunks", [case.get("body", "")])).encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(body)), max_size=5)) | {0, len(body)})
    return case, [body[a:b] for a, b in itertools.pairwise(cuts)]


@steady
@given(cut_bodies([case for case in FAILURES if case["chunks"][-1] != "Internal server error"]))
def test_a_failure_is_one_however_it_is_split(cut: tuple[dict[str, Any], list[bytes]]) -> None:
    """A failure of the corpus has the same class, however a proxy splits its body."""
    case, chunks = cut
    text, error = decoded(chunks, framed=False, complete=True)
    assert (text.rstrip(), error) == (case.get("text", "").rstrip(), case["error"])
    assert decoded(chunks, framed=False)[1] == case["error"]


@pytest.mark.parametrize("split", [1, 2, 3])
def test_a_sign_may_be_split(split: int) -> None:
    """A notice after a sign is found if the sign's bytes are in two chunks."""
    answer, notice = b"Water flows down to\n\n", "⚠️ Connection lost, try again.".encode()
    chunks = [answer + notice[:split], notice[split:]]
    assert decoded(chunks, framed=False)[1] == "StreamInterruptedError"


@steady
@given(cut_bodies(ANSWERS))
def test_an_answer_is_one_however_it_is_split(cut: tuple[dict[str, Any], list[bytes]]) -> None:
    """An honest answer of the corpus stays complete, however a proxy splits its body."""
    case, chunks = cut
    expected = case.get("text", "".join(case.get("chunks", [case.get("body", "")])))
    for complete in (True, False):
        assert decoded(chunks, framed=False, complete=complete) == (expected, None)


@pytest.mark.parametrize("change", [str.upper, str.lower, str.capitalize])
def test_case_does_not_matter(change: Callable[[str], str]) -> None:
    """Every refusal of the corpus has the same class in capital and in small letters."""
    for case in REFUSALS:
        body = change("".join(case["chunks"]))
        assert (body, decoded([body.encode()], framed=True)[1]) == (body, case["error"])


@pytest.mark.parametrize("before", [" ", "\n", "\r\n", "\ufeff"])
def test_white_space_before_a_refusal_does_not_matter(before: str) -> None:
    """Every refusal of the corpus has the same class after white space or a byte order mark."""
    for case in REFUSALS:
        body = before + "".join(case["chunks"])
        assert (body, decoded([body.encode()], framed=True)[1]) == (body, case["error"])


@pytest.mark.parametrize("before", ["⚠️ ", "❌"])
def test_a_sign_before_a_refusal_does_not_make_it_an_answer(before: str) -> None:
    """Every refusal of the corpus is an error after a sign too, without any text."""
    for case in REFUSALS:
        body = before + "".join(case["chunks"])
        text, error = decoded([body.encode()], framed=True)
        assert (body, text, error is None) == (body, "", False)


@pytest.mark.parametrize("case", PLAIN_ANSWERS, ids=lambda case: case["name"])
def test_every_beginning_of_an_answer_is_returned(case: dict[str, Any]) -> None:
    """What arrived of an answer is returned, unless the same text alone would be a refusal."""
    body = "".join(case.get("chunks", [case.get("body", "")]))
    for length in range(1, len(body)):
        beginning = body[:length]
        text, error = decoded([beginning.encode()], framed=True)
        if error and case["name"] in QUOTES_A_FAILURE:
            assert beginning.startswith(text)
            continue
        refusal = error_in_body(beginning, {}, Site())
        expected = ("", type(refusal).__name__) if refusal else (beginning, None)
        assert (text, error) == expected


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        (["The three primary colours are red,", "\n\nRate limit exceeded. Try again later."], None),
        (["In 1969 three astronauts flew to", "The server had an error, sorry!"], None),
        (["A long answer " * 50, "to", "The server had an error, sorry!"], None),
        (["A long answer " * 50, "\n\nThe server had an error, please try again later."], None),
        (["The colours are red, green, blue.", "\n\nQuota exceeded, please upgrade."], None),
        (["The colours are red, green, blue.", "\n\nIf the server is busy, try again."], "all"),
        (["The colours are red, green and", " too many requests came."], "all"),
        (["The fix is simple.\n\n", "Restart the server and try again."], "all"),
        (["Three steps:\n1. stop\n", "2. If the server is busy, wait and try again."], "all"),
        (
            [
                "The colours are red,",
                "\n\nRate limit exceeded, try again later.",
                " This was said." * 40,
            ],
            "all",
        ),
        (
            [
                "Here is the draft.",
                "\n\nYour account has been suspended. Please contact support.",
                "\n\nBest regards, the team",
            ],
            "all",
        ),
        (
            [
                "Here is the draft.",
                "\n\nYour account has been suspended. Please contact support.\n\n",
                "Best",
                " regards, the team",
            ],
            "all",
        ),
    ],
)
def test_a_refusal_as_the_last_paragraph(chunks: list[str], text: str | None) -> None:
    """A last paragraph in its own chunk is a failure if it is a refusal and no text follows."""
    expected = ("".join(chunks), None) if text else ("".join(chunks[:-1]), "StreamInterruptedError")
    assert decoded([chunk.encode() for chunk in chunks], framed=True) == expected


@pytest.mark.parametrize(
    "refusal",
    [
        ["\n\nYour account has been suspended.\n\nPlease contact support."],
        ["\n\nYour account has been suspended. Sorry.", "\n\n", "Please contact support."],
        ["\n\nRate limit exceeded, try again later.", "\n\nUpgrade your plan to continue."],
    ],
)
def test_a_refusal_of_two_paragraphs(refusal: list[str]) -> None:
    """A refusal after the answer stays one if its advice is a paragraph or a chunk of its own."""
    answer = "The three primary colours are red,"
    text, error = decoded([chunk.encode() for chunk in (answer, *refusal)], framed=True)
    assert (text, error) == (answer, "StreamInterruptedError")


@pytest.mark.parametrize(
    ("body", "retryable", "fatal", "period"),
    [
        ("You have used up your free messages for today.", True, False, 86400),
        ("今日免费次数已用完，请明天再来", True, False, 86400),
        ("Your quota is used up. Try again in 20 minutes.", True, False, None),
        ("Insufficient balance. Please top up.", False, True, None),
        ("This model is only for premium members.", False, True, None),
        ("Too many requests, slow down.", True, False, None),
        ("API key expired.", False, True, None),
    ],
)
def test_what_follows_from_a_refusal(
    body: str, retryable: bool, fatal: bool, period: float | None
) -> None:
    """A daily quota is one of a day, and what only money or a key can change is fatal."""
    error = error_in_body(body, {}, Site())
    assert error is not None
    assert (error.retryable, error.fatal) == (retryable, fatal)
    assert (error.limits.period if error.limits else None) == period


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"code": 429, "msg": "slow down"}', "RateLimitError"),
        ('{"success": false, "message": "额度不足"}', "RateLimitError"),
        ('[{"error": {"code": 503, "message": "down"}}]', "OverloadedError"),
        ('Error: {"type": "ERR", "status": 403}', "PermissionDeniedError"),
        ('{"message": "Hello, world"}', None),
        ('{"code": "A1", "status": "shipped"}', None),
        ('{"error": "quota exceeded", "river": "Nile"}', None),
        ('{"erro": true, "mensagem": "Senha inválida"}', "AuthenticationError"),
        ('{"ошибка": "Превышен лимит запросов"}', "RateLimitError"),
        ('{"summary": "Quota exceeded, please upgrade"}', None),
    ],
)
def test_a_json_object_that_tells_of_an_error(body: str, error: str | None) -> None:
    """A JSON object of nothing but an error's keys is one if it says so; others are answers."""
    assert decoded([body.encode()], framed=True) == ("" if error else body, error)


@steady
@given(
    st.lists(
        st.binary(max_size=8)
        | st.sampled_from(
            [b"data: ", b"\n\n", b"[DONE]", b'{"error":', b"}", b"<think>", b"<html>"]
        )
        | st.sampled_from([b'{"choices":[{"delta":{"content":"a"}}]}', b"[", b"]", b"*", b"\n"]),
        max_size=12,
    ),
    st.booleans(),
    st.sampled_from(["text/event-stream", "text/plain", ""]),
)
def test_any_body_is_text_and_perhaps_an_error(
    chunks: list[bytes], framed: bool, content_type: str
) -> None:
    """Any chunks give text, and no other exception than an error of this package."""
    decoder = ReplyDecoder(framed=framed, headers={"Content-Type": content_type})
    try:
        for chunk in chunks:
            decoder.feed(chunk)
        decoder.finish()
    except APIError:
        pass


@pytest.mark.parametrize(
    "body",
    [
        "The message was “Your session has expired. Please log in again.”",
        "用户看到“余额不足，请充值”。",
        "類別：支付\n優先級：高\n摘要：餘額不足，請充值",
        "Category: Your account has been suspended. Please contact support.",
        "Too many requests. This means that the client has to wait before it tries again.",
        "1. Your session has expired. Please log in again.",
    ],
)
def test_what_no_site_says_of_itself(body: str) -> None:
    """Words in quotation marks, behind keys, in a list or explained later are an answer."""
    assert decoded([body.encode()], framed=True) == (body, None)
