"""Makes the README's pictures from real output: `PYTHONPATH=. python .github/pictures/make.py [RECORDED]`.

Downloads torchtitan 0.2.1, runs check, apply, verify and report on it in a terminal of 80
columns, and draws what they printed, light and dark; takes verify's curves, and the page
in Chromium. Some six minutes on 2 cores. What is printed is kept in the folder RECORDED,
and drawn again from there if it is there already.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import struct
import sys
import tempfile
import termios
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
from rich.text import Text

from migrator.demo import put_under_git
from migrator.releases import download

HERE = Path(__file__).parent
WIDTH = 80

COMMANDS = {
    "check": ["titan-migrate", "check", "./torchtitan"],
    "apply": ["titan-migrate", "apply", "./torchtitan"],
    "verify": ["titan-migrate", "verify", "./torchtitan"],
}

TABLE = "model cell verdict loss grad_norm speed memory".split()

SHOWN = {"check": (None, 21), "apply": (None, 5), "verify": (TABLE, 16)}
"""Of each command, the words of the line that the drawn ones begin with, and how many these are."""


def printed(command: list[str], folder: Path) -> bytes:
    """What a command prints on a terminal, with its colours."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    read = bytearray()
    while True:
        try:
            read += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
    os.waitpid(pid, 0)
    return bytes(read)


def lines(output: str) -> list[str]:
    """Lines as they stand there in the end: without what a spinner has wiped away."""
    text = re.sub(r"\x1b\[\?25[lh]", "", output.replace("\r\n", "\n"))
    text = re.sub(r"[^\n]*\n(\r|\x1b\[1A)+(?=\x1b\[2K)", "", text)
    return [re.sub(r"^.*(\x1b\[2K|\r)", "", line) for line in text.split("\n")]


def draw(recorded: Path, name: str, theme) -> None:
    """One terminal with the commands below each other."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for command, words in COMMANDS.items():
        console.print(Text("$ " + " ".join(words), style="bold"))
        shown = lines((recorded / f"{command}.txt").read_bytes().decode().rstrip())
        first, number = SHOWN[command]
        plain = [Text.from_ansi(line).plain.split() for line in shown]
        at = plain.index(first) if first else 0
        more = Text("  ⋮", style="dim")
        if at:
            console.print(more)
        console.print(Text.from_ansi("\n".join(shown[at : at + number])))
        if len(shown) > at + number:
            console.print(more)
        console.print()
    svg = console.export_svg(title="torchtitan 0.2.1", theme=theme)
    # A picture that asks no other host for a font.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)
    (HERE / name).write_text(svg)


def record(folder: Path) -> None:
    """Runs the commands, and keeps what they print and write."""
    with tempfile.TemporaryDirectory() as made:
        tree = Path(made) / "torchtitan"
        tree.mkdir()
        if problem := download("0.2.1", tree):
            sys.exit(problem)
        put_under_git(tree, "torchtitan 0.2.1")
        folder.mkdir(parents=True, exist_ok=True)
        for name, command in COMMANDS.items():
            (folder / f"{name}.txt").write_bytes(printed(command, Path(made)))
        page = ["titan-migrate", "report", "./torchtitan", "--html"]
        printed([*page, str(folder.resolve() / "page.html")], Path(made))
        curves = Path(made) / "titan-migrate-report"
        for curve in curves.glob("**/dp*.svg"):
            shutil.copy(curve, folder / f"{curve.parent.name}-{curve.name}")


def photograph(page: Path) -> None:
    """The page for reviewers as a browser shows it."""
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        view.goto(page.resolve().as_uri())
        view.screenshot(path=HERE / "page.png")
        browser.close()


def main() -> None:
    recorded = Path(sys.argv[1] if sys.argv[1:] else tempfile.mkdtemp())
    if not (recorded / "verify.txt").exists():
        record(recorded)
    draw(recorded, "terminal-light.svg", DEFAULT_TERMINAL_THEME)
    draw(recorded, "terminal-dark.svg", DIMMED_MONOKAI)
    photograph(recorded / "page.html")
    print(f"Pictures in {HERE}; what was recorded is in {recorded}.")


if __name__ == "__main__":
    main()
