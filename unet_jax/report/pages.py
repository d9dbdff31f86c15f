"""Writes a report: one HTML file with all in it, Markdown with its figures beside it, and CSV."""

import base64
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2

from unet_jax.process.whole import write_text
from unet_jax.report.blocks import Block, Figure, Listing, Points, Report, Strip, Words
from unet_jax.report.tables import Table, escape

HTML, MARKDOWN = "report.html", "report.md"


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes a report; what an earlier one left under other names is removed.

    Args:
        report: The report.
        folder: Where to; made if missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.svg"), *folder.glob("*.csv"), *folder.glob("image_*.png")):
        old.unlink()
    files = []
    for table in report.tables:
        files.append(folder / table.file)
        write_text(files[-1], table.to_csv())
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Figure):
                files.append(folder / f"{file_name(block.name)}.svg")
                write_text(files[-1], block.svg)
            elif isinstance(block, Strip):
                files.append(folder / f"{block.name}.png")
                files[-1].write_bytes(block.png)
    for name, text in ((HTML, to_html(report)), (MARKDOWN, to_markdown(report))):
        files.append(folder / name)
        write_text(files[-1], text)
    return files


def file_name(name: str) -> str:
    """Makes a name fit for a file and a link."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)


def to_html(report: Report) -> str:
    """Writes the page that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data"] = _data
    page = environment.get_template("page.html.j2")
    return page.render(report=report, grouped=_grouped)


def _grouped(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Groups blocks of one kind that follow each other, under the kind's name."""
    return [(kind, list(g)) for kind, g in itertools.groupby(blocks, lambda b: type(b).__name__)]


def _data(block: Figure | Strip) -> str:
    """Writes a figure as a URL that holds it."""
    if isinstance(block, Figure):
        kind, content = "svg+xml", block.svg.encode()
    else:
        kind, content = "png", block.png
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def to_markdown(report: Report) -> str:
    """Writes the report as Markdown that links its figures."""
    parts = [f"# {escape(report.title)}", escape(" ".join(report.lead))]
    for section in report.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_markdown(block) for block in section.blocks]
    links = ", ".join(f"[{table.file}]({table.file})" for table in report.tables)
    parts.append(f"Numbers at full precision: {links}.")
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Words):
        return escape(block.text)
    if isinstance(block, Points):
        return "\n".join(f"- {escape(text)}" for text in block.texts)
    if isinstance(block, Table):
        return block.to_markdown()
    if isinstance(block, Listing):
        longest = max(map(len, re.findall("`+", block.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{escape(block.heading)}\n\n{fence}text\n{block.text}\n{fence}"
    ending = "svg" if isinstance(block, Figure) else "png"
    link = f"![{escape(block.name)}]({file_name(block.name)}.{ending})"
    return f"{link}\n\n*{escape(block.caption)}*"
