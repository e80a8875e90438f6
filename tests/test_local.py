"""The base URL ``local``: the built-in model in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aichatfree import Client
from helpers import run_python, wait_until

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of the real model, which all tests of this module share."""
    with Client.local() as client:
        yield client


def test_the_built_in_model_answers(client: Client) -> None:
    """``Client.local()`` answers without a site, an account or a second terminal."""
    assert "Paris" in client.generate(QUESTION).text


def test_the_environment_chooses_the_built_in_model(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AICHATFREE_BASE_URL=local, ``Client()`` uses the model, whatever else is set there."""
    monkeypatch.setenv("AICHATFREE_BASE_URL", "local")
    monkeypatch.setenv("AICHATFREE_SECRET", "of another site")
    with Client() as other:
        assert "Paris" in other.generate(QUESTION).text


def test_clients_share_one_model(client: Client) -> None:
    """A second client of the model starts no further gateway."""
    with Client.local() as other:
        assert repr(other) == repr(client)


def test_the_model_stays_while_a_client_uses_it(client: Client) -> None:
    """Closing one client of the model, twice even, does not end it for another."""
    other = Client.local()
    other.close()
    other.close()
    assert "Paris" in client.generate(QUESTION).text


def test_a_client_with_other_options_uses_the_same_model(client: Client) -> None:
    """``with_options`` works as for any other site."""
    assert "Paris" in client.with_options(dialect="openai").generate(QUESTION).text


def test_the_built_in_model_cannot_be_sent_to_workers(client: Client) -> None:
    """A client of the model cannot be described to another process; the error says what to do."""
    with pytest.raises(ValueError, match=r"built-in model.*client_factory"):
        client.to_dict()


def test_wrong_arguments_do_not_keep_the_model(client: Client) -> None:
    """An argument that cannot be used raises its error, and the model has no user more."""
    with pytest.raises(TypeError, match="retry="):
        Client.local(retry=5)  # type: ignore[arg-type]


def test_nothing_is_left_when_the_last_client_is_closed() -> None:
    """After the last client of the model is closed, only the main thread runs."""
    code = """
        import threading
        import aichatfree
        for _ in range(2):
            with aichatfree.Client.local() as client:
                client.generate("Hello", timeout=aichatfree.Timeout(total=60))
            print([thread.name for thread in threading.enumerate()])
    """
    assert run_python(code).stdout == "['MainThread']\n" * 2


def test_many_threads_may_open_and_close_the_model() -> None:
    """Clients that are opened and closed in many threads at once never find a closed model."""

    def use(_: int) -> str:
        with Client.local() as client:
            return client.generate(QUESTION).text

    before = threading.active_count()
    with ThreadPoolExecutor(4) as executor:
        assert all("Paris" in text for text in executor.map(use, range(8)))
    wait_until(lambda: threading.active_count() <= before)


def test_the_default_site_names_three_ways_out() -> None:
    """The default site no longer answers; its connection error soon says what else to use."""
    code = """
        import socket
        import aichatfree

        def refuse(*_):
            raise socket.gaierror(-2, "Name or service not known")

        socket.getaddrinfo = refuse
        try:
            aichatfree.Client(base_url=None).generate("Hello")
        except aichatfree.APIConnectionError as error:
            print(error, error.attempts)
    """
    printed = run_python(code).stdout
    assert printed.endswith(" 2\n")
    for words in ("no longer answers", "AICHATFREE_BASE_URL=local", "base_url=", "serve"):
        assert words in printed


def test_the_traceback_of_a_connection_error_fits_on_a_screen() -> None:
    """An uncaught connection error prints at most 25 lines, with its cause and the user's line."""
    code = """
        import aichatfree
        aichatfree.Client("http://127.0.0.1:9", retry=None).generate("Hello")
    """
    lines = run_python(code).stderr.splitlines()
    assert len(lines) <= 25
    assert "ConnectionRefusedError" in lines[0]
    assert lines[-1].startswith("aichatfree.errors.APIConnectionError: Nothing answers at")
