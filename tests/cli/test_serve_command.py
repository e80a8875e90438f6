"""``aichatfree serve``: what it prints, where its answers come from, and what it refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import openai
import pytest

from aichatfree import Client, Message
from aichatfree.errors import StreamInterruptedError
from aichatfree.gateway import Engine, Gateway, TokenLimitError
from aichatfree.testing import FakeSite
from helpers import COMMAND, LONG, UNREACHABLE, Echo, echo, run

SITE = ["serve", "--site", UNREACHABLE]


@contextmanager
def serving(*arguments: str, lines: int, **settings: str) -> Iterator[list[str]]:
    """The lines that the command prints when it serves, on any free port."""
    environment = {f"AICHATFREE_{name}": value for name, value in settings.items()}
    with subprocess.Popen(
        [*COMMAND, *arguments, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            assert process.stderr is not None
            yield [process.stderr.readline() for _ in range(lines)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 130
        finally:
            process.kill()


def url_in(lines: list[str]) -> str:
    return lines[0].split()[2]


def test_serve_prints_what_clients_need_but_no_secret() -> None:
    """Both URLs are printed to be copied; of the secret and the password only the names are."""
    with serving(*SITE, lines=7, SECRET="the-secret", PASSWORD="the-password") as lines:
        url = url_in(lines)
    assert lines == [
        f"Serving at {url} (Ctrl-C stops it). Clients need:\n",
        f"  export AICHATFREE_BASE_URL={url}\n",
        "  AICHATFREE_SECRET as set here\n",
        "  AICHATFREE_PASSWORD as set here\n",
        "OpenAI's clients need:\n",
        f"  export OPENAI_BASE_URL={url}/v1\n",
        "  OPENAI_API_KEY: AICHATFREE_PASSWORD as set here\n",
    ]


def test_serve_says_that_openai_clients_need_a_password_beside_a_secret() -> None:
    """If there is a secret and no password, OpenAI's API is closed, and this is printed."""
    with serving(*SITE, lines=4, SECRET="the-secret") as lines:
        pass
    assert lines[3] == "OpenAI's clients need AICHATFREE_PASSWORD to be set here as well.\n"


def test_a_site_is_served_with_its_own_secret_and_password() -> None:
    """The site gets the secret and the password that are meant for it; clients need others."""
    with FakeSite([echo], secret="its-secret", password="its-password", verify=True) as site:
        settings = {"SITE_SECRET": "its-secret", "SITE_PASSWORD": "its-password"}
        settings |= {"SECRET": "own-secret", "PASSWORD": "own-password"}
        with serving("serve", "--site", site.url, lines=7, **settings) as lines:
            url = url_in(lines)
            with Client(url, secret="own-secret", password="own-password") as client:
                assert client.generate("Hi").text == "echo Hi"
            with openai.OpenAI(base_url=f"{url}/v1", api_key="own-password") as other:
                reply = other.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": "Hello"}]
                )
    assert reply.choices[0].message.content == "echo Hello"


@pytest.mark.parametrize("own", [{"SECRET": "s3cret", "PASSWORD": "sesame"}, {}])
def test_a_site_never_gets_the_secret_or_the_password_of_the_gateway(own: dict[str, str]) -> None:
    """A site for which no secret and no password is set gets none."""
    with FakeSite([echo], verify=True) as site:
        with serving("serve", "--site", site.url, lines=2, **own) as lines:
            options = {name.lower(): value for name, value in own.items()}
            with Client(url_in(lines), **options) as client:  # type: ignore[arg-type]
                assert client.generate("Hi").text == "echo Hi"
        assert site.requests[-1].json["pass"] is None


@pytest.mark.parametrize("from_file", [False, True])
def test_several_sites_are_served(from_file: bool, tmp_path: Path) -> None:
    """The gateway answers from a site that works, of those that were named or are in a file."""
    with FakeSite([echo]) as site:
        urls = (UNREACHABLE, site.url)
        options = [word for url in urls for word in ("--site", url)]
        if from_file:
            file = tmp_path / "sites.toml"
            file.write_text("".join(f'[[site]]\nbase_url = "{url}"\n' for url in urls))
            options = ["--sites", str(file)]
        with serving("serve", *options, lines=2) as lines, Client(url_in(lines)) as client:
            assert client.generate("Hi").text == "echo Hi"


def test_the_upstream_is_served() -> None:
    """With `--upstream`, answers come from that server."""
    with Gateway(Echo()) as upstream:
        arguments = ["serve", "--upstream", f"{upstream.url}/v1", "--model", "m"]
        with serving(*arguments, lines=2) as lines, Client(url_in(lines)) as client:
            assert client.generate("Hi").text == "Hi"


class Limited(Engine):
    """Reaches its limit of tokens after a few words."""

    def generate(self, messages: list[Message], **options: object) -> Iterator[str]:
        yield "so far"
        raise TokenLimitError


@pytest.mark.parametrize(("options", "complete"), [([], False), (["--allow-truncated"], True)])
def test_allow_truncated_is_an_option(options: list[str], complete: bool) -> None:
    """Only with `--allow-truncated` do chat clients take an answer that stopped at a limit of
    tokens for complete.
    """
    with Gateway(Limited()) as upstream:
        arguments = ["serve", "--upstream", f"{upstream.url}/v1", "--model", "m", *options]
        with serving(*arguments, lines=2) as lines, Client(url_in(lines), retry=None) as client:
            stream = client.stream("Hi")
            assert next(stream) == "so far"
            with nullcontext() if complete else pytest.raises(StreamInterruptedError):
                stream.read()
            assert stream.complete is complete


@pytest.mark.parametrize("problem", ["unreachable", "wrong key"])
def test_an_upstream_that_does_not_work_is_reported_with_its_url(problem: str) -> None:
    """If the upstream cannot be used, the command fails with its URL before it serves."""
    with Gateway(Echo(), password="sesame") as upstream:
        url = f"{UNREACHABLE if problem == 'unreachable' else upstream.url}/v1"
        done = run("serve", "--upstream", url, "--model", "m", "--port", "0", API_KEY="wrong")
    assert done.returncode == 1
    assert f"The model's server at {url} cannot be used: ".encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_port_in_use_is_reported_in_one_line() -> None:
    """If the port is taken, the exit code is 1, and the message says to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(*SITE, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert b"choose another port" in done.stderr
    assert done.stderr.count(b"\n") == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_gateway_cannot_be_its_own_site(host: str) -> None:
    """A site that is the gateway itself is refused, because no question would ever be answered."""
    port = free_port()
    done = run("serve", "--site", f"http://{host}:{port}", "--port", str(port))
    assert done.returncode == 2
    assert b"is this gateway itself" in done.stderr


WRONG_USAGE = {
    "model without upstream": (["--model", "x"], b"--upstream"),
    "upstream without model": (["--upstream", UNREACHABLE], b"--model"),
    "upstream and site": (["--upstream", UNREACHABLE, "--site", UNREACHABLE], b"exclude"),
    "site and file": (["--sites", "sites.toml", "--site", UNREACHABLE], b"exclude"),
    "no such file": (["--sites", "sites.toml"], b"sites.toml"),
    "dialect without site": (["--dialect", "openai"], b"--site"),
    "not a URL": (["--site", "chat.example"], b"needs http:// or https://"),
    "open to the network": (
        ["--host", "0.0.0.0"],
        b"set both AICHATFREE_SECRET and AICHATFREE_PASSWORD",
    ),
}


@pytest.mark.parametrize("kind", WRONG_USAGE)
def test_wrong_usage_of_serve_is_exit_code_2(kind: str) -> None:
    """Wrong options are reported before a port is opened or a model is loaded."""
    arguments, words = WRONG_USAGE[kind]
    done = run("serve", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert b"Serving" not in done.stderr
