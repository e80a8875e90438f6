"""``Router``: its arguments, and what it does as a ``Client``."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import tenacity

from aichatfree import (
    AIChatFreeError,
    APIConnectionError,
    APIError,
    Chat,
    Client,
    EmptyReplyError,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    Router,
    ServerError,
    Stream,
    StreamInterruptedError,
    Timeout,
)
from aichatfree.testing import Answer, FakeSite, Request
from helpers import AT_ONCE, HANG, UNREACHABLE, echo, forks_beside_threads, wait_until

from .sites import DOWN, NO_HEAD, router_over, sites

# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["http://a", Client("http://a"), ["http://a"], [None]])
def test_only_clients_are_accepted(wrong: Any) -> None:
    """A router takes a list of clients; a URL, or one client that is not in a list, is a
    TypeError."""
    with pytest.raises(TypeError, match="list of clients"):
        Router(wrong)


def test_a_router_needs_a_client() -> None:
    """An empty list is a ValueError."""
    with pytest.raises(ValueError, match="at least one client"):
        Router([])


def test_a_router_in_a_router_stands_for_its_sites() -> None:
    """The sites of a router that is given like a client are used one by one."""
    inner = Router([Client("http://a"), Client("http://b", dialect="openai")])
    assert repr(Router([inner, Client("http://c")])) == (
        "Router([Client('http://a', dialect='gemini'), Client('http://b', dialect='openai'), "
        "Client('http://c', dialect='gemini')])"
    )


def test_a_prompt_that_a_site_cannot_take_is_refused() -> None:
    """A prompt has to fit the dialect of every site, or nothing is sent."""
    with sites(echo, echo) as (first, second):
        clients = [Client(first.url, dialect="openai"), Client(second.url)]
        with router_over(*clients) as router:
            with pytest.raises(ValueError, match="temperature"):
                router.generate("Hello", temperature=0.5)
            assert all(result.ok for result in router.batch([{"prompt": "q", "temperature": 1}]))
        assert len(first.requests) + len(second.requests) == 1


# --- as a client ------------------------------------------------------------------------------


def test_other_options_keep_the_state_of_the_sites() -> None:
    """`with_options` gives a router that knows what this one has learned about the sites."""
    with sites(echo) as (site,), router_over(UNREACHABLE, site.url) as router:
        router.generate("Hello")
        other = router.with_options(timeout=5, retry=None, system="Be brief.")
        reply = other.generate("Hello")
        assert (reply.text, reply.attempts) == ("echo Be brief.\n\nHello", 1)
        with pytest.raises(TypeError, match="cannot change 'model', only retry, system, timeout"):
            router.with_options(model="large")


def test_each_site_has_its_own_system_prompt() -> None:
    """The system prompts of the clients are used, unless one is given for the call."""
    with sites(echo) as (site,), router_over(Client(site.url, system="Be brief.")) as router:
        assert router.generate("Hello").text == "echo Be brief.\n\nHello"
        assert router.generate("Hello", system="Be long.").text == "echo Be long.\n\nHello"


def test_a_conversation_stays_with_its_site() -> None:
    """All questions of a chat go to the site that answered the first, while that works; then the
    whole conversation goes to another one and stays there."""
    first = FakeSite(echo).__enter__()
    with sites(echo) as (second,), router_over(first.url, second.url) as router:
        chat = router.chat()
        assert {chat.send(f"question {n}").site for n in range(6)} == {first.url}
        first.__exit__(None, None, None)
        assert chat.send("and now?").site == second.url
        assert len(second.requests[-1].json["messages"]) == 13
        again = Chat.from_dict(chat.to_dict(), router)
        assert again.send("and then?").site == second.url


def test_check_reports_each_site() -> None:
    """`check` has findings for each site, and is right only if all of them are."""
    with sites(echo) as (site,), router_over(site.url, UNREACHABLE) as router:
        health = router.check()
        assert not health.ok
        assert {finding.site for finding in health.findings if finding.ok is False} == {UNREACHABLE}
        assert str(health).startswith(f"{site.url}\nok    url")
        assert f"\n{UNREACHABLE}\nWRONG url" in str(health)


class ModelList(BaseHTTPRequestHandler):
    """A site that lists two models."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'["large", "small"]')

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def test_models_are_those_of_all_sites() -> None:
    """`models` lists each model once; if no site has a list, the error of the first is raised."""
    with HTTPServer(("127.0.0.1", 0), ModelList) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with sites(echo) as (site,):
            with router_over(UNREACHABLE, site.url, url, url) as router:
                assert router.models() == ["large", "small"]
            with router_over(site.url, UNREACHABLE) as router, pytest.raises(NotFoundError):
                router.models()
        server.shutdown()


def test_closing_a_router_closes_its_clients() -> None:
    """After `close` neither the router nor its clients can be used, and its calls are cancelled."""
    with sites(NO_HEAD) as (site,):
        client = Client(site.url)
        router = Router([client])
        errors: list[Exception] = []

        def ask() -> None:
            try:
                router.generate("Hello")
            except AIChatFreeError as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: site.requests)
        began = time.monotonic()
        router.close()
        thread.join()
        assert time.monotonic() - began < AT_ONCE
        assert isinstance(errors[0], StreamInterruptedError)
        with pytest.raises(AIChatFreeError, match="closed"):
            client.generate("Hello")


def test_a_pickled_router_works() -> None:
    """A router can be pickled; the copy begins without knowledge of the sites."""
    with sites(echo) as (site,), router_over(UNREACHABLE, site.url) as router:
        router.generate("Hello")
        with pickle.loads(pickle.dumps(router)) as copy:
            assert copy.generate("Hello").attempts == 2


def ask_in_child(router: Router, results: Any) -> None:
    results.put(router.generate("Hello").text)


@forks_beside_threads
def test_a_router_works_after_a_fork() -> None:
    """A forked child can use the router of its parent."""
    context = multiprocessing.get_context("fork")
    with sites(echo) as (site,), router_over(UNREACHABLE, site.url) as router:
        router.generate("Hello")
        results = context.Queue()
        child = context.Process(target=ask_in_child, args=(router, results))
        child.start()
        assert results.get(timeout=10) == "echo Hello"
        child.join()


# --- retries ----------------------------------------------------------------------------------


def test_retries_count_for_each_site() -> None:
    """With both sites failing, a prompt is sent `max_attempts` times for each of them, all taken
    together."""
    policy = RetryPolicy(max_attempts=2)
    with sites(DOWN, DOWN) as both, router_over(*[s.url for s in both], retry=policy) as router:
        with pytest.raises(ServerError) as caught:
            router.generate("Hello")
        assert caught.value.attempts == 4
        assert sum(len(site.requests) for site in both) == 4


def test_without_retries_there_is_one_request() -> None:
    """With `retry=None` a failed prompt does not move."""
    with sites(DOWN, echo) as (first, second):
        with router_over(first.url, second.url, retry=None) as router, pytest.raises(ServerError):
            router.generate("Hello")
        assert not second.requests


def test_the_clients_own_retries_are_not_used() -> None:
    """A client in a router makes single attempts, whatever its own policy is."""
    with sites(DOWN, echo) as (first, second):
        stubborn = Client(first.url, retry=RetryPolicy(max_attempts=9, initial_wait=0))
        with router_over(stubborn, second.url) as router:
            assert router.generate("Hello").attempts == 2
        assert len(first.requests) == 1


def test_a_tenacity_object_decides_itself() -> None:
    """With a tenacity object of the user's, its rules apply; each attempt goes where it can be
    answered soonest."""
    with sites(echo) as (site,):
        retrying = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))
        with router_over(UNREACHABLE, site.url, retry=retrying) as router:
            assert router.generate("Hello").attempts == 2


def test_an_empty_answer_is_asked_for_once_more() -> None:
    """An empty answer is retried once, as with one site, and does not move for ever."""
    with sites(Answer(), Answer()) as (first, second), router_over(first.url, second.url) as router:
        with pytest.raises(EmptyReplyError) as caught:
            router.generate("Hello")
        assert caught.value.attempts == 2


def test_a_cool_down_beyond_the_deadline_is_an_error_at_once() -> None:
    """If every site states a wait beyond the deadline, the error comes at once, names each site
    and says how long to wait."""
    busy = Answer(status=429, body="Busy.", headers={"Retry-After": "60"})
    with sites(busy, busy) as both, router_over(*[s.url for s in both]) as router:
        with pytest.raises(RateLimitError) as caught:
            router.generate("Hello", timeout=Timeout(total=20))
        assert all(site.url in str(caught.value) for site in both)
        assert 50 < (caught.value.retry_after or 0) <= 60
        assert caught.value.attempts == 2


def test_a_cancelled_probe_does_not_occupy_its_site() -> None:
    """When the prompt that probes a site is cancelled before its first chunk, the next one probes
    the site at once."""
    answers = [DOWN, Answer("one", delay=HANG), "two"]
    with sites(answers) as (site,), router_over(site.url) as router:
        stream = router.stream("Hello")
        reader = threading.Thread(target=read, args=[stream])
        reader.start()
        wait_until(lambda: len(site.requests) == 2)
        stream.cancel()
        reader.join()
        reply = router.generate("Hello")
        assert (reply.text, reply.attempts) == ("two", 1)
        assert reply.elapsed < AT_ONCE / 4


def read(stream: Stream) -> None:
    with suppress(APIError):
        stream.read()


def test_no_secret_is_in_the_error_of_a_site() -> None:
    """Errors that name the sites do not repeat secrets that a site has sent back."""

    def leak(request: Request) -> Answer:
        return Answer(status=500, body=f"cannot log in with {request.json['pass']}")

    with FakeSite(leak) as site:
        client = Client(site.url, password="long-pa55word")
        with (
            router_over(client, retry=RetryPolicy(max_attempts=1)) as router,
            pytest.raises(ServerError) as caught,
        ):
            router.generate("Hello")
        assert "long-pa55word" not in repr(vars(caught.value))
        assert site.url in str(caught.value)


def test_connections_that_fail_are_not_the_prompts_fault() -> None:
    """In a batch, a prompt is not given up because sites could not be reached for a while."""
    policy = RetryPolicy(max_attempts=1)
    with router_over(UNREACHABLE, retry=policy) as router:
        with pytest.raises(APIConnectionError):
            router.generate("Hello")
        with router.batch(["Hello"], max_workers=1) as batch:
            threading.Timer(1.5, batch.close).start()
            with pytest.raises(AIChatFreeError, match="closed"):
                next(batch)
        assert batch.summary.failed == 0
