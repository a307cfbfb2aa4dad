"""Takes Markdown apart: spans and blocks of code, links and headings, each with its line.

Only what our documents use: fenced blocks of three backquotes, inline code (which may go on in the
next line), inline links and images, headings with #.
"""

import re
from dataclasses import dataclass, field

FENCE = re.compile(r"^ *```([\w+-]*) *$")
HEADING = re.compile(r"^(#{1,6}) +(.*?) *$")
CODE = re.compile(r"(?<!`)(`+)(?!`)((?:.|\n(?!\s*\n))+?)(?<!`)\1(?!`)")
LINK = re.compile(r"!?\[(?:[^\]\\]|\\.)*\]\(<?([^)\s>]+)>?\)")


@dataclass(frozen=True)
class Span:
    """Inline code, its line breaks as blanks; `section` is the heading above it."""

    line: int
    text: str
    section: str


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of text."""

    line: int
    language: str
    text: str
    section: str


@dataclass(frozen=True)
class Link:
    line: int
    target: str


@dataclass(frozen=True)
class Heading:
    line: int
    title: str
    slug: str


@dataclass
class Document:
    """`prose` is the text with its line breaks, blocks and inline code blanked out."""

    name: str
    prose: str = ""
    spans: list[Span] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)

    def section_at(self, line: int) -> str:
        above = [heading.title for heading in self.headings if heading.line <= line]
        return above[-1] if above else ""


def blank(text: str) -> str:
    """The same line breaks, nothing else."""
    return re.sub(r"[^\n]", " ", text)


def slug_of(title: str, taken: list[str]) -> str:
    """The anchor that GitHub gives a heading."""
    slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()).replace(
        " ", "-"
    )
    count = taken.count(slug)
    taken.append(slug)
    return f"{slug}-{count}" if count else slug


def take_blocks(document: Document, text: str) -> str:
    """Moves fenced blocks out of the text; returns the text with blank lines in their places."""
    lines = text.split("\n")
    opened = None
    for i, line in enumerate(lines):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened = i
        elif opened is not None and line.strip() == "```":
            body = "\n".join(lines[opened + 1 : i])
            language = FENCE.match(lines[opened]).group(1)
            document.blocks.append(Block(opened + 2, language, body, ""))
            lines[opened : i + 1] = [""] * (i + 1 - opened)
            opened = None
    if opened is not None:
        raise ValueError(f"{document.name}:{opened + 1}: a block that does not end")
    return "\n".join(lines)


def parse(name: str, text: str) -> Document:
    document = Document(name)
    text = take_blocks(document, text)
    taken: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        heading = HEADING.match(line)
        if heading:
            title = heading.group(2)
            document.headings.append(Heading(number, title, slug_of(title, taken)))
    document.blocks = [
        Block(block.line, block.language, block.text, document.section_at(block.line))
        for block in document.blocks
    ]

    def line_of(match) -> int:
        return text.count("\n", 0, match.start()) + 1

    for match in CODE.finditer(text):
        inside = re.sub(r"\s*\n\s*", " ", match.group(2)).replace("\\|", "|").strip()
        document.spans.append(Span(line_of(match), inside, document.section_at(line_of(match))))
    document.prose = CODE.sub(lambda match: blank(match.group()), text)
    for match in LINK.finditer(document.prose):
        document.links.append(Link(line_of(match), match.group(1)))
    return document
