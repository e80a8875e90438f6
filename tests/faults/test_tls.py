"""Sites whose certificate comes from a private certificate authority."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path

import pytest

from aichatfree import APIConnectionError, StreamInterruptedError
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import AT_ONCE, SHORT, ClientFor

from .tls import tls_site


def test_verify_names_a_certificate_authority(client_for: ClientFor, tmp_path: Path) -> None:
    """With verify= a client trusts a private authority, and keeps the connection."""
    with FakeSite("Hello") as site, tls_site(site.url) as tls:
        client = client_for(tls.url, verify=tls.authority_file(tmp_path))
        assert [client.generate("Hi").text for _ in range(2)] == ["Hello"] * 2
        assert len({request.connection for request in site.requests}) == 1


def test_chunks_arrive_over_tls_while_the_site_is_writing(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """Over TLS a stream gives the first chunk before the site has sent the second one."""
    with FakeSite(Answer("a", "b", gap=SHORT)) as site, tls_site(site.url) as tls:
        stream = client_for(tls.url, verify=tls.authority_file(tmp_path)).stream("Hi")
        assert next(stream) == "a"
        assert not stream.complete
        assert stream.read() == "ab"


def test_a_stream_over_tls_can_be_cancelled(client_for: ClientFor, tmp_path: Path) -> None:
    """Over TLS cancel() ends the wait of another thread for a site that is silent."""
    with FakeSite(Answer("a", end="stall")) as site, tls_site(site.url) as tls:
        stream = client_for(tls.url, verify=tls.authority_file(tmp_path)).stream("Hi")
        assert next(stream) == "a"
        began = time.monotonic()
        threading.Timer(SHORT, stream.cancel).start()
        with pytest.raises(StreamInterruptedError, match="cancelled"):
            stream.read()
        assert time.monotonic() - began < SHORT + AT_ONCE


def test_surplus_bytes_are_not_taken_for_the_next_answer(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """A second response in the same packet is not taken for the answer to the next prompt."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    length = 8192 - len(head % 1000)  # so that a buffered reader has read exactly one response
    response = head % length + b"x" * length
    with (
        FakeSite([Raw(response + head % 8 + b"poisoned", end="clean"), Answer("Hello")]) as site,
        tls_site(site.url) as tls,
    ):
        client = client_for(tls.url, verify=tls.authority_file(tmp_path))
        assert len(response) == 8192
        assert client.generate("Hi").text == "x" * length
        time.sleep(SHORT)  # until the second response has arrived
        assert client.generate("Hi").text == "Hello"


def test_a_certificate_for_another_name_is_rejected(client_for: ClientFor, tmp_path: Path) -> None:
    """A certificate for another host is fatal and not retried, and no request is sent."""
    with FakeSite("Hello") as site, tls_site(site.url, name="site.example") as tls:
        client = client_for(tls.url, verify=tls.authority_file(tmp_path))
        with pytest.raises(APIConnectionError, match=r"certificate of .* not valid") as caught:
            client.generate("Hi")
        assert caught.value.attempts == 1
        assert not site.requests
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.retryable, error.fatal) == (False, True)
