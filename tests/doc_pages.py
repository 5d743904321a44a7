"""The pages of the documentation as tests read them: text, links, code, commands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its text and the line that the text starts in."""

    language: str
    text: str
    line: int


def written_pages() -> list[Path]:
    """README and the pages that people write; not what the build makes."""
    pages = [page for kind in ("md", "rst") for page in DOCS.rglob(f"*.{kind}")]
    made = ("_build", "_generated", "_templates")
    return [
        ROOT / "README.md",
        *sorted(p for p in pages if p.relative_to(DOCS).parts[0] not in made),
    ]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and words of every command in the page's shell blocks."""
    for block in blocks(page):
        if block.language != "shell":
            continue
        line, pending = block.line, ""
        for offset, text in enumerate(block.text.splitlines()):
            pending += text.removesuffix("\\")
            if text.endswith("\\"):
                continue
            words = shlex.split(pending, comments=True)
            if words:
                yield line + offset, words
            pending = ""
