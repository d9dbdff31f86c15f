"""A card to read: as Markdown, and as one HTML page with its figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.cards.card import write_card
from unet_jax.glance.embed import embed
from unet_jax.html.document import Section, write_document
from unet_jax.html.elements import Html, make
from unet_jax.metrics.names import MEANS
from unet_jax.process.whole import write_text

GENERATOR = "unet_jax --mode=eval"


class Table(NamedTuple):
    """Rows under headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


class Part(NamedTuple):
    """A part of a card: under a heading, tables and points."""

    heading: str
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()


def number(value: float | None) -> str:
    """Writes a value with four digits; "absent" without one."""
    return "absent" if value is None else f"{value:.4f}"


def interval(score: Mapping[str, Any]) -> str:
    """Writes the interval of a card's score, or why there is none; "" where none was computed."""
    if "low" in score:
        return f"{number(score['low'])} to {number(score['high'])}"
    return f"none: {score['why']}" if "why" in score else ""


def headline(card: Mapping[str, Any]) -> str:
    """Writes the score that counts most, with its interval, in a line."""
    name = card["headline"]
    score = card["scores"].get(name, {"value": None})
    ends, groups = interval(score), card["data"]["groups"]
    over = f"{groups} groups of images" if groups else f"{card['data']['images']} images"
    known = f", 95% interval over {over}" if "low" in score else ""
    held = f"; {score['held']:.1%} of those of so few hold the truth" if "held" in score else ""
    return f"{name} {number(score['value'])}" + (f" ({ends}{known}{held})" if ends else "")


def parts(card: Mapping[str, Any]) -> Iterator[Part]:
    """Yields the parts of a card in their order."""
    scores, first = card["scores"], card["headline"]
    names = [name for name in scores if "low" in scores[name] or "why" in scores[name]]
    names.sort(key=lambda name: name != first)
    rows = [[n, number(scores[n]["value"]), interval(scores[n])] for n in names]
    classes = [
        [name, *(number(scores.get(f"{kind}/{name}", {"value": None})["value"]) for kind in MEANS)]
        for name in card["data"]["class_names"]
    ]
    shown = {f"{kind}/{name}" for kind in MEANS for name in card["data"]["class_names"]}
    rest = [[n, number(scores[n]["value"])] for n in scores if n not in {*names, *shown}]
    tables = [Table(("score", "value", "95% interval"), rows), Table(("class", *MEANS), classes)]
    tables += [Table(("score", "value"), rest)] if rest else []
    yield Part("Scores", tables)
    yield Part("Rules", points=card["rules"])
    data = {name: x for name, x in card["data"].items() if name not in ("views", "class_names")}
    data["classes"] = ", ".join(card["data"]["class_names"])
    yield Part("Data", [Table(("", ""), _facts(data))])
    yield Part("Run", [Table(("", ""), _facts(card["run"]))])
    worst, median = (
        [[name, number(value)] for name, value in card["images"][kind]]
        for kind in ("worst", "median")
    )
    if worst:
        heads = [(f"{kind} images", first) for kind in ("worst", "median")]
        yield Part("Images", [Table(heads[0], worst), Table(heads[1], median)])


def _facts(facts: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, value in facts.items():
        rows.append([name.replace("_", " "), _fact(value)])
    return rows


def _fact(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    inner = (
        f"({_fact(one)})" if isinstance(one, Mapping) else _fact(one) for one in value.values()
    )
    return ", ".join(f"{name} {text}" for name, text in zip(value, inner, strict=True))


def verify_command(file: str) -> str:
    """Returns the command that computes every number of a card again."""
    return f"python -m unet_jax.main --mode=verify --card={file}"


def write_files(
    folder: Path, name: str, card: Mapping[str, Any], figures: Sequence[Path] = ()
) -> None:
    """Writes a card as JSON, as Markdown and as one HTML page.

    Args:
        folder: Where to; made.
        name: Of the files, without ending.
        card: The card.
        figures: PNGs that the page shows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = f"{name}.json"
    texts = {
        ".json": write_card(card),
        ".md": to_markdown(card, file),
        ".html": to_html(card, file, figures),
    }
    for ending, text in texts.items():
        write_text(folder / f"{name}{ending}", text)


def to_markdown(card: Mapping[str, Any], file: str) -> str:
    """Writes a card as Markdown.

    Args:
        card: The card.
        file: Name of its JSON file.

    Returns:
        The text.
    """
    lines = [f"# {card['title']}", "", f"**{headline(card)}**", ""]
    for part in parts(card):
        lines += [f"## {part.heading}", ""]
        for table in part.tables:
            lines.append(f"| {' | '.join(table.headings)} |")
            lines.append("|" + "---|" * len(table.headings))
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in table.rows]
            lines.append("")
        lines += [*(f"- {point}" for point in part.points), *([""] if part.points else [])]
    lines += ["Every number again, from the counts in the card:", ""]
    return "\n".join([*lines, "```text", verify_command(file), "```", ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def to_html(card: Mapping[str, Any], file: str, figures: Sequence[Path]) -> str:
    """Writes a card as one page that needs no other file.

    Args:
        card: The card.
        file: Name of its JSON file.
        figures: PNGs to show.

    Returns:
        HTML.
    """
    sections = []
    for part in parts(card):
        children = [make("div", _table(one), kind="wide", tabindex="0") for one in part.tables]
        children += [make("ul", *(make("li", point) for point in part.points))] * bool(part.points)
        sections.append(Section(part.heading.lower(), part.heading, children))
    shown = [embed(figure, figure.stem.replace("_", " ")) for figure in figures]
    sections += [Section("figures", "Figures", shown)] * bool(shown)
    again = [make("pre", verify_command(file), tabindex="0")]
    sections.append(Section("again", "Every number again", again))
    footer = f"All numbers, and the counts that they are computed from, are in {file}."
    lead = [make("p", make("b", headline(card)))]
    return write_document(card["title"], GENERATOR, lead, sections, footer)


def _table(table: Table) -> Html:
    rows = [make("tr", *(make("th", heading) for heading in table.headings))]
    rows += [make("tr", *(make("td", cell) for cell in row)) for row in table.rows]
    return make("table", *rows)
