"""Every figure of the README stands on a page that the same section links.

A figure is a number with a unit: "4.5x", "30 dB", "2.6 GB"; in a list or a range ("1.3x to 2.2x",
"36.9 and 39.9 dB", "+1 to 2 %") the last unit counts for all. Decimals without a unit are looked up
as numbers, but for versions ("CUDA 12.4"). The pages are those in docs/measurements/ and the model
cards. On them a figure may stand in the text or in a table, with its unit in the cell or in the
head of its column ("PSNR, dB"). "30 dB" and "30.0 dB" are the same; what is rounded differently is
not: then the page says the README's figure, too.
"""

import posixpath
import re
from decimal import Decimal
from pathlib import Path

from markdown_parts import Document, parse

ROOT = Path(__file__).parents[2]
PAGE = re.compile(r"^(docs/measurements/[\w-]+|models/[\w-]+/README)\.md$")

UNIT = r"(?:x|dB|%|[KMGT]i?B|[GT]FLOP/s|[km]?W|ms|µs|s|minutes|hours)(?![\w/])"
NUMBER = r"(?<![\w.,])\d{1,3}(?:,\d{3})+|(?<![\w.,])\d+(?:\.\d+)?"
ITEM = rf"(?:{NUMBER})(?: ?(?:{UNIT}))?"
SERIES = re.compile(rf"(?:{ITEM})(?:(?: to | and | or | / )(?:{ITEM}))*")
ONE = re.compile(rf"({NUMBER})(?: ?({UNIT}))?")
# Numbers behind these are names, not figures.
VERSIONED = (
    r"(?:arXiv|capability|CUDA|diffusers|FLUX|Mochi|nvcc|oneDNN|PyTorch|Python|torch|transformers|"
    r"Wan|version)"
)
NAMES = re.compile(rf"(?i)\b{VERSIONED}[ .]\d[\d.]*|\b\d+x\d+(?:x\d+)*\b|[A-Za-z_][\w.-]*\d[\w.-]*")
LINK_TARGET = re.compile(r"\]\([^)]*\)")


def figures(text: str) -> list[tuple[int, Decimal, str]]:
    """(line, number, unit or "") of each number of a text."""
    text = NAMES.sub(lambda match: " " * len(match.group()), LINK_TARGET.sub("]", text))
    text = re.sub(r"[*|](?=\d)|(?<=[\dxBs%])\*+", " ", text)
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        for series in SERIES.finditer(line):
            unit = ""
            items = []
            for item in reversed(list(ONE.finditer(series.group()))):
                unit = item.group(2) or unit
                items.append((number, Decimal(item.group(1).replace(",", "")), unit))
            found += reversed(items)
    return found


def sections(document: Document) -> list[tuple[int, str, set[str]]]:
    """(lines before it, text, pages it links) of each section."""
    starts = [1, *(heading.line for heading in document.headings if heading.line > 1)]
    lines = document.prose.split("\n")
    result = []
    for start, end in zip(starts, [*starts[1:], len(lines) + 1]):
        pages = set()
        for link in document.links:
            target = posixpath.normpath(
                posixpath.join(posixpath.dirname(document.name), link.target.split("#")[0])
            )
            if start <= link.line < end and PAGE.match(target):
                pages.add(target)
        result.append((start - 1, "\n".join(lines[start - 1 : end - 1]), pages))
    return result


def figures_on_page(document: Document) -> set[tuple[Decimal, str]]:
    """Each number with its unit, and with the units in the head of its column."""
    found = {(number, unit) for _, number, unit in figures(document.prose)}
    head: list[str] = []
    for line in document.prose.split("\n"):
        cells = line.strip().strip("|").split("|")
        if not line.lstrip().startswith("|"):
            head = []
        elif not head:
            head = cells
        for title, cell in zip(head, cells):
            for _, number, unit in figures(cell):
                found |= {(number, own) for own in re.findall(rf"(?<!\w){UNIT}", title) if not unit}
    return found | {(number, "") for number, _ in found}


def unsupported(readme: Document, pages: dict[str, Document]) -> list[str]:
    faults = []
    for before, text, linked in sections(readme):
        known = set().union(*(figures_on_page(pages[name]) for name in linked))
        for line, number, unit in figures(text):
            is_figure = unit != "" or number != number.to_integral_value()
            if is_figure and (number, unit) not in known:
                where = ", ".join(sorted(linked)) or "a page: the section links none"
                faults.append(
                    f"{readme.name}:{before + line}: {number} {unit} does not stand on {where}"
                )
    return faults


def load(name: str) -> Document:
    return parse(name, (ROOT / name).read_text())


def test_the_readme_claims_what_its_pages_say():
    readme = load("README.md")
    pages = {name: load(name) for _, _, linked in sections(readme) for name in linked}
    assert pages
    faults = unsupported(readme, pages)
    assert not faults, "\n" + "\n".join(faults)


# The reading of figures, on small strings.


def read(text: str) -> list[str]:
    return [f"{number} {unit}".strip() for _, number, unit in figures(text)]


def test_numbers_are_read_with_their_units():
    assert read("**4.5x** faster at 30 dB (28.9 at worst)") == ["4.5 x", "30 dB", "28.9"]
    assert read("1.3x to 2.2x, 36.9 and 39.9 dB, +1 to 2 %") == [
        "1.3 x",
        "2.2 x",
        "36.9 dB",
        "39.9 dB",
        "1 %",
        "2 %",
    ]
    assert read("5.4x / 12.1x / 16.2x; 83.5 / 93 / 95 % sparse") == [
        "5.4 x",
        "12.1 x",
        "16.2 x",
        "83.5 %",
        "93 %",
        "95 %",
    ]
    assert read("D 128, 93 % sparse; 2.7x at width 256, 2.8x at 768") == [
        "128",
        "93 %",
        "2.7 x",
        "256",
        "2.8 x",
        "768",
    ]
    assert read("N 7,680 takes 1.5 s, 12 ms, 2 GB, 3.1 TFLOP/s") == [
        "7680",
        "1.5 s",
        "12 ms",
        "2 GB",
        "3.1 TFLOP/s",
    ]
    assert (
        read(
            "512x512 pixels, Wan 2.1, FLUX.1, diffusers 0.42 on PyTorch 2.13, CUDA 12.4, D128, bf16"
        )
        == []
    )
    assert read("50 steps, [30 dB](docs/measurements/a-10.5.md)") == ["50", "30 dB"]


def supported(readme: str, page: str) -> list[str]:
    pages = {"docs/measurements/a.md": parse("docs/measurements/a.md", page)}
    return unsupported(parse("README.md", readme), pages)


def test_figures_of_the_page_are_supported():
    readme = "# T\n## S\n4.5x at 30 dB, 28.9 at worst: [page](docs/measurements/a.md)"
    assert supported(readme, "It is **4.5x** faster at 30.0 dB (28.9 dB).") == []
    table = (
        "| way | speed-up | PSNR, dB (worst) |\n| --- | ---: | ---: |\n| a | 4.5x | 30.0 (28.9) |"
    )
    assert supported(readme, table) == []


def test_figures_that_stand_nowhere_are_reported_with_their_line():
    readme = "# T\n## S\n[page](docs/measurements/a.md)\n\n4.5x at 30 dB\n## Next\n4.5x"
    assert supported(readme, "4.51x at 30.0 dB") == [
        "README.md:5: 4.5 x does not stand on docs/measurements/a.md",
        "README.md:7: 4.5 x does not stand on a page: the section links none",
    ]
    assert len(supported(readme, "4.5 dB at 30 %")) == 3  # the unit counts
    assert len(supported("[p](docs/measurements/a.md) 12.5 at worst", "12.6 dB")) == 1
