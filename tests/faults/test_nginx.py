"""Sites behind nginx: its default ``proxy_pass``, without buffering, and with ``limit_req``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aichatfree import Client, StreamInterruptedError
from aichatfree.testing import Answer, FakeSite
from helpers import ClientFor, echo
from nginx_proxy import needs_nginx, nginx

pytestmark = needs_nginx

PROXIES = {
    "default": "",
    "unbuffered": "proxy_buffering off;",
    "HTTP/1.1": "proxy_http_version 1.1;",
}
WAYS: dict[str, Callable[[Client], str]] = {
    "generate": lambda client: client.generate("Hi").text,
    "stream": lambda client: client.stream("Hi").read(),
    "chat": lambda client: client.chat().send("Hi").text,
    "batch": lambda client: batch_of_one(client),
}
CHUNKS = ("Hello, ", "wörld", "!")


def batch_of_one(client: Client) -> str:
    (result,) = client.batch(["Hi"])
    if result.error is not None:
        raise result.error
    return result.text


@pytest.fixture(params=PROXIES.values(), ids=list(PROXIES))
def directives(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def ask(request: pytest.FixtureRequest) -> Callable[[Client], str]:
    way: Callable[[Client], str] = request.param
    return way


def test_a_complete_answer_arrives(
    client_for: ClientFor, tmp_path: Path, directives: str, ask: Callable[[Client], str]
) -> None:
    """Whether nginx buffers an answer or not, its text is complete."""
    with FakeSite(Answer(*CHUNKS)) as site, nginx(site.url, tmp_path, directives) as url:
        assert ask(client_for(url)) == "".join(CHUNKS)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(*CHUNKS, end="tail"),
        Answer(*CHUNKS, end="reset"),
        Answer(*CHUNKS, end="cut", framing="length"),
    ],
    ids=["failure tail", "reset", "length"],
)
def test_an_incomplete_answer_is_an_error(
    client_for: ClientFor,
    tmp_path: Path,
    directives: str,
    ask: Callable[[Client], str],
    answer: Answer,
) -> None:
    """An answer that failed or was cut off behind nginx is an error, and never has the tail."""
    with FakeSite(answer) as site, nginx(site.url, tmp_path, directives) as url:
        with pytest.raises(StreamInterruptedError) as caught:
            ask(client_for(url, retry=None))
        assert "".join(CHUNKS).startswith(caught.value.partial_text)


def test_a_closed_connection_is_an_error_if_nginx_speaks_http_1_1(
    client_for: ClientFor, tmp_path: Path, ask: Callable[[Client], str]
) -> None:
    """With `proxy_http_version 1.1` nginx notices that a site closed the connection too early."""
    answer = Answer(*CHUNKS, end="cut")
    with (
        FakeSite(answer) as site,
        nginx(site.url, tmp_path, PROXIES["HTTP/1.1"]) as url,
        pytest.raises(StreamInterruptedError),
    ):
        ask(client_for(url, retry=None))


@pytest.mark.parametrize("status", [503, 429])
def test_a_batch_loses_no_prompt_to_limit_req(
    client_for: ClientFor, tmp_path: Path, status: int
) -> None:
    """Above a limit of 20 a second all prompts are answered, and less than half of them retried."""
    directives = f"limit_req zone=clients burst=5; limit_req_status {status};"
    with FakeSite(echo) as site, nginx(site.url, tmp_path, directives) as url:
        results = list(client_for(url).batch([str(i) for i in range(80)], max_workers=16))
    assert [result.text for result in results] == [f"echo {i}" for i in range(80)]
    assert sum(result.attempts for result in results) < 1.5 * 80
