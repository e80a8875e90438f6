"""Draws ``docs/terminal.svg``: commands and what they printed when this script ran them.

Run it again when the command line prints something else. The figures of time differ from run to
run: if nothing else has changed, the picture is left as it is.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).parent / "terminal.svg"
COLUMNS = 84
BATCH = "aichatfree batch --local prompts.txt -o answers.jsonl --max-workers 2"
COMMANDS = [
    'aichatfree ask --local "Why is the sky blue?"',
    r"printf 'Name a river in %s.\n' Egypt Brazil France > prompts.txt",
    BATCH,
    "# The same again continues where it stopped:",
    BATCH,
]
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def printed_by(command: str, folder: str) -> str:
    """What a command leaves on a terminal."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    with subprocess.Popen(
        command, shell=True, cwd=folder, stdin=side, stdout=side, stderr=side
    ) as process:
        os.close(side)
        output = b""
        while piece := read(main):
            output += piece
    os.close(main)
    assert process.returncode == 0, output
    lines = output.decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r")[2] for line in lines).rstrip()


def read(terminal: int) -> bytes:
    """The next bytes from a terminal; none at its end, which Linux reports as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def draw() -> str:
    """The picture, as SVG that needs no font from the network."""
    unseen = io.StringIO()
    console = Console(
        record=True, width=COLUMNS, file=unseen, force_terminal=True, color_system="truecolor"
    )
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            if output := printed_by(command, folder):
                console.print(Text.from_ansi(output))
    svg = console.export_svg(title="aichatfree", theme=MONOKAI, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", FONTS).replace("Fira Code", FONTS)


def main() -> None:
    """Draw the picture, unless only times would change."""
    new = draw()
    old = PICTURE.read_text(encoding="utf-8") if PICTURE.exists() else ""
    if re.findall("[A-Za-z]{2,}", new) != re.findall("[A-Za-z]{2,}", old):
        PICTURE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
