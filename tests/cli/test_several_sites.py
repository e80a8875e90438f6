"""Several sites on the command line: ``--base-url`` repeated, or a file of sites."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aichatfree.testing import FakeSite
from helpers import UNREACHABLE, echo, run


def file_of(folder: Path, *urls: str) -> str:
    path = folder / "sites.toml"
    path.write_text("".join(f'[[site]]\nbase_url = "{url}"\n' for url in urls), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("option", ["--base-url", "--site"])
def test_the_address_may_be_repeated(option: str) -> None:
    """With several addresses, a prompt goes to the site that answers."""
    with FakeSite([echo]) as site:
        done = run("ask", "Hello", option, UNREACHABLE, option, site.url)
    assert (done.returncode, done.stdout) == (0, b"echo Hello\n")


@pytest.mark.parametrize("from_environment", [False, True])
def test_a_file_of_sites(tmp_path: Path, from_environment: bool) -> None:
    """--sites, or AICHATFREE_SITES, names a TOML file of sites."""
    with FakeSite([echo]) as site:
        path = file_of(tmp_path, UNREACHABLE, site.url)
        if from_environment:
            done = run("ask", "Hello", SITES=path)
        else:
            done = run("ask", "Hello", "--sites", path)
    assert (done.returncode, done.stdout) == (0, b"echo Hello\n")


def test_an_address_takes_precedence_over_the_environment(tmp_path: Path) -> None:
    """With --base-url, AICHATFREE_SITES is not read."""
    with FakeSite([echo]) as site:
        done = run("ask", "Hello", "--base-url", site.url, SITES=str(tmp_path / "none.toml"))
    assert done.returncode == 0


def test_a_file_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is told of no site reads aichatfree.toml; AICHATFREE_BASE_URL goes first."""
    monkeypatch.chdir(tmp_path)
    with FakeSite([echo]) as site, FakeSite(["other"]) as other:
        Path(file_of(tmp_path, UNREACHABLE, site.url)).rename("aichatfree.toml")
        assert run("ask", "Hello").stdout == b"echo Hello\n"
        assert run("ask", "Hello", url=other.url).stdout == b"other\n"


def test_chat_with_several_sites(tmp_path: Path) -> None:
    """A conversation works with several sites, and --system is sent to each."""
    with FakeSite([echo]) as site:
        path = file_of(tmp_path, UNREACHABLE, site.url)
        done = run("chat", "--sites", path, "--system", "Be brief.", stdin=b"one\ntwo\n")
    assert done.stdout == b"echo Be brief.\n\none\necho two\n"


def test_batch_says_how_many_each_site_has_answered(tmp_path: Path) -> None:
    """The rows of a batch name the site, and the summary counts for each site."""
    prompts = "".join(f"prompt {number}\n" for number in range(40)).encode()
    with FakeSite([echo]) as first, FakeSite([echo]) as second:
        path = file_of(tmp_path, first.url, second.url)
        done = run("batch", "--sites", path, "--system", "Be brief.", stdin=prompts)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["site"] for row in rows} == {first.url, second.url}
    assert f" by {first.url}" in done.stderr.decode()
    assert f" by {second.url}" in done.stderr.decode()


def test_check_reports_each_site(tmp_path: Path) -> None:
    """`check` shows the findings below the address of each site; the code is 1 if one is wrong."""
    with FakeSite([echo]) as site:
        done = run("check", "--base-url", site.url, "--base-url", UNREACHABLE)
    lines = done.stdout.decode().splitlines()
    assert lines[0] == site.url
    assert lines.index(UNREACHABLE) > 1
    assert lines[-1].startswith("WRONG url")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sites", "none.toml"], b"none.toml"),
        (["--sites", "none.toml", "--base-url", UNREACHABLE], b"exclude each other"),
        (["--sites", "none.toml", "--model", "large"], b"--model"),
    ],
)
def test_wrong_options_are_wrong_usage(arguments: list[str], words: bytes) -> None:
    """A file that does not exist, or options that do not go with it, are wrong usage."""
    done = run("ask", "Hello", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
