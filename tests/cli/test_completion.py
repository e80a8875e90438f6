"""Completion with Tab in each shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from aichatfree._cli.main import cli
from helpers import LONG

SCRIPTS = Path(sysconfig.get_path("scripts"))


def run_in_shell(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(SCRIPTS), os.environ["PATH"]])
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
        env={**os.environ, **environment, "PATH": path},
    )


def complete(shell: str, *words: str) -> list[str]:
    """What the shell is offered when Tab is pressed after the last of these words."""
    typed = ["aichatfree", *words]
    at = words[-1] if shell == "fish" else str(len(words))
    done = run_in_shell(
        "aichatfree",
        _AICHATFREE_COMPLETE=f"{shell}_complete",
        COMP_WORDS=" ".join(typed),
        COMP_CWORD=at,
    )
    return re.split(r"[,\t\n]", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["as"], {"ask"}),
        (["batch", "--max-w"], {"--max-workers"}),
        (["ask", "--dialect", ""], {"gemini", "openai"}),
        (["check", "--dialect", "op"], {"openai"}),
        (["batch", "prom"], {"file"}),
        (["batch", "prompts.txt", "-o", "ans"], {"file"}),
    ],
)
def test_tab_completes(shell: str, words: list[str], offered: set[str]) -> None:
    """Tab completes commands, options, their values and files, in each shell."""
    completions = complete(shell, *words)
    assert offered <= set(completions)
    assert not {"chat", "serve"} & set(completions)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_the_startup_file_is_in_the_help(shell: str) -> None:
    """The line for the shell's startup file prints a function that completes words."""
    line = f"_AICHATFREE_COMPLETE={shell}_source aichatfree"
    assert line in (cli.help or "")
    assert "_aichatfree_completion" in run_in_shell("bash", "--norc", "-c", line).stdout


def test_completion_works_in_bash() -> None:
    """After the line from the help was run in bash, Tab offers the commands with that prefix."""
    line = re.search(r"eval .*# bash", cli.help or "")
    assert line is not None
    presses_tab = "COMP_WORDS=(aichatfree ch); COMP_CWORD=1; _aichatfree_completion aichatfree"
    script = f'{line[0]}\n{presses_tab}\necho "${{COMPREPLY[@]}}"'
    assert run_in_shell("bash", "--norc", "-c", script).stdout == "chat check\n"


def test_completion_is_fast() -> None:
    """Completing a word imports none of the libraries that are slow to import."""
    done = run_in_shell(
        sys.executable,
        "-X",
        "importtime",
        str(SCRIPTS / "aichatfree"),
        _AICHATFREE_COMPLETE="bash_complete",
        COMP_WORDS="aichatfree as",
        COMP_CWORD="1",
    )
    assert done.stdout == "plain,ask\n"
    assert "click" in done.stderr
    assert not re.search(r"\b(requests|urllib3|tenacity|tqdm)\b", done.stderr)
