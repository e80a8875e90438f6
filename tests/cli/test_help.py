"""The help of each command, whose examples are run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aichatfree._cli.main import cli
from aichatfree.gateway import Gateway
from helpers import paste, run

# One process at a time: the model computes on all cores.
pytestmark = pytest.mark.xdist_group("embedded model")

COMMANDS: dict[str, click.Command] = {"aichatfree": cli, **cli.commands}


def help_of(name: str) -> str:
    return COMMANDS[name].get_help(
        click.Context(COMMANDS[name], info_name=name, max_content_width=80)
    )


def examples_of(name: str) -> list[str]:
    shown = re.search(r"Examples?:\n((?:    .+\n)+)", help_of(name))
    return [line.strip() for line in shown[1].splitlines()] if shown else []


@pytest.fixture(scope="module")
def site() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(name: str) -> None:
    """The help of each command shows at least one example."""
    assert examples_of(name)


@pytest.mark.parametrize("line", [line for name in COMMANDS for line in examples_of(name)])
def test_every_example_works(line: str, site: Gateway, tmp_path: Path) -> None:
    """Each example in the help works when it is pasted; of a server, only the start is tested."""
    (tmp_path / "reviews.csv").write_text("id,review\n7,Very good.\n")
    if " -o answers.jsonl" not in line:  # the output of a batch
        answer = {"custom_id": "0", "prompt_digest": "0" * 16, "index": 0, "text": "Red."}
        text = json.dumps(answer, separators=(",", ":"))
        (tmp_path / "answers.jsonl").write_text(f"{text}\n")
    paste(line.replace("http://127.0.0.1:8000", site.url), url=site.url, folder=tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_on_a_terminal(name: str) -> None:
    """No line of the help is wider than 80 columns, and no summary is cut off."""
    text = help_of(name)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"\.\.\.$", text.partition("\n")[2], re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["ask", "--help"], ["batch", "-h"]])
def test_help_has_a_long_and_a_short_option(arguments: list[str]) -> None:
    """--help and -h print the help of the program and of its commands."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Usage: ")
