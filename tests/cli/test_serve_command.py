"""``aichatfree serve``: what it prints, and which options it refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from helpers import COMMAND, LONG, run

UPSTREAM = ["serve", "--upstream", "http://127.0.0.1:1/v1", "--model", "m"]


def test_serve_prints_what_clients_need_but_no_secret() -> None:
    """The URL is printed to be copied; of the secret and the password only the names are."""
    settings = {"AICHATFREE_SECRET": "the-secret", "AICHATFREE_PASSWORD": "the-password"}
    with subprocess.Popen(
        [*COMMAND, *UPSTREAM, "--port", "0"], stderr=subprocess.PIPE, env={**os.environ, **settings}
    ) as process:
        try:
            assert process.stderr is not None
            lines = [process.stderr.readline().decode() for _ in range(4)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 130
        finally:
            process.kill()
    assert "Serving at http://127.0.0.1:" in lines[0]
    assert "export AICHATFREE_BASE_URL=http://127.0.0.1:" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == ["AICHATFREE_SECRET", "AICHATFREE_PASSWORD"]
    assert "the-" not in "".join(lines)


def test_a_port_in_use_is_reported_in_one_line() -> None:
    """If the port is taken, the exit code is 1, and the message says to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(*UPSTREAM, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert b"choose another port" in done.stderr
    assert done.stderr.count(b"\n") == 1


WRONG_USAGE = {
    "model without upstream": (["serve", "--model", "x"], b"--upstream"),
    "open to the network": (
        ["serve", "--host", "0.0.0.0"],
        b"set both AICHATFREE_SECRET and AICHATFREE_PASSWORD",
    ),
}


@pytest.mark.parametrize("kind", WRONG_USAGE)
def test_wrong_usage_of_serve_is_exit_code_2(kind: str) -> None:
    """Wrong options are reported before a port is opened or a model is loaded."""
    arguments, words = WRONG_USAGE[kind]
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert b"Serving" not in done.stderr
