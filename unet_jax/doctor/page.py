"""The page of the doctor: one HTML file with all in it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from unet_jax import figures
from unet_jax.doctor import record
from unet_jax.doctor.audit import Audit
from unet_jax.doctor.audit_page import audit_section
from unet_jax.doctor.examine import ClassShare, Examination, class_shares
from unet_jax.doctor.finding import Finding
from unet_jax.doctor.mends import flag, flags
from unet_jax.doctor.recommend import sentence
from unet_jax.doctor.thumbnails import BINS, Album, Histogram, Thumbnail, find_thumbnails, frame
from unet_jax.html.document import Section, write_document
from unet_jax.html.elements import Html, make

GENERATOR = "unet_jax --mode=doctor"
SHOWN = 5  # thumbnails of a finding
_HATCHED = "#9b9b9b"
_CHANNELS = {1: ("#8a8a94",), 3: ("#e5484d", "#30a46c", "#3e7bfa")}
_HEIGHT = 24  # of a chart, in bins


def write_html(
    found: Examination,
    page: str,
    command: str,
    audit: Audit | None = None,
    folder: Path | None = None,
) -> str:
    """Writes the page.

    Args:
        found: What was found.
        page: The recommended config, as Python.
        command: What trains with it.
        audit: Of the labels; None for none.
        folder: Where its masks are.

    Returns:
        HTML that needs no other file; the same of the same data.
    """
    albums = [Album(survey) for survey in reversed(found.surveys)]
    audited = audit_section(audit, folder, albums) if audit and folder else ()
    title = record.title(found)
    sections = [
        ("findings", "Findings", list(_findings(found, albums))),
        ("labels", "Suspect labels", list(audited)),
        ("samples", "Random samples", list(_samples(found, albums[0]))),
        ("classes", "Classes", list(_classes(found))),
        ("values", "Values of the images", list(_values(found, albums[0]))),
        ("page", "Recommended page", list(_recommended(found, page, command))),
    ]
    footer = f"Written by {GENERATOR}. The numbers are in {record.FILE}."
    told = (Section(*section) for section in sections)
    return write_document(title, GENERATOR, _header(found), told, footer)


def _header(found: Examination) -> Iterable[Html]:
    verdict = record.verdict(found)
    level = "error" if found.count("error") else "warning" if found.findings else "fine"
    yield make("p", verdict, kind=f"verdict {level}")
    facts = [(key, make("dd", value)) for key, value in record.facts(found).items()]
    names = found.survey.class_names
    chips = [make("span", _swatch(_colour(k)), f"{name} ") for k, name in enumerate(names)]
    facts.append(("classes", make("dd", *chips) if chips else make("dd", "none are named")))
    yield make("dl", *(e for key, told in facts for e in (make("dt", key), told)))


def _findings(found: Examination, albums: Sequence[Album]) -> Iterable[Html]:
    if found.mended:
        lines = "\n".join(f"config.{key}={value!r}" for key, value in found.mended.items())
        yield make(
            "p",
            "The masks could not be read as the config says. What is below was seen with these "
            "lines, which are mends of the errors:",
        )
        yield make("pre", lines, tabindex="0")
    if not found.findings:
        yield make("p", "Nothing is wrong that the doctor knows of.")
    for one in found.findings:
        yield make("article", *_finding(one, albums), kind=f"finding {one.level}")


def _finding(one: Finding, albums: Sequence[Album]) -> Iterable[Html]:
    yield make("h3", make("b", one.level), f": {one.fault.replace('_', ' ')}")
    yield make("p", sentence(one.says))
    if one.is_config():
        yield make("p", "In a page:", kind="muted")
        yield make("pre", one.mend, tabindex="0")
        yield make("p", "On the command line:", kind="muted")
        yield make("pre", " \\\n".join(flags(one)), tabindex="0")
    else:
        yield make("p", make("strong", "Mend: "), one.mend)
    yield from _thumbnails(find_thumbnails(albums, one.files, SHOWN))
    if one.files:
        shown, heading = one.listed()
        yield make("details", make("summary", heading), make("pre", "\n".join(shown), tabindex="0"))


def _thumbnails(thumbnails: Sequence[Thumbnail]) -> Iterable[Html]:
    if thumbnails:
        yield make("div", *map(frame, thumbnails), kind="thumbnails")


def _samples(found: Examination, album: Album) -> Iterable[Html]:
    for split, looks in found.survey.looks.items():
        yield make("h3", f"{split}: {len(looks)} images")
        yield from _thumbnails(album.samples(split))


def _classes(found: Examination) -> Iterable[Html]:
    shares = class_shares(found.survey)
    if not shares:
        return
    count = sum(one.classes is not None for _, one in found.survey.all())
    yield make("p", f"Of the pixels that count, in the masks of {count} images.", kind="muted")
    for k, one in enumerate(shares):
        if one.name or one.pixels:
            yield _class(k, one, count)


def _colour(index: int) -> str:
    return f"#{bytes(figures.palette(index + 1)[-1]).hex()}"


def _swatch(colour: str) -> Html:
    return make("span", kind="swatch", style=f"background:{colour}")


def _class(index: int, one: ClassShare, count: int) -> Html:
    colour = _colour(index) if one.name else _HATCHED
    name = one.name or "counts nowhere (hatched; of all pixels)"
    text = f" {one.share:.2%} of the pixels, in {one.images} of {count} images"
    return make(
        "div",
        _swatch(colour),
        make("strong", name),
        text,
        make(
            "div",
            make("div", style=f"width:{one.share:.2%};background:{colour}"),
            kind="bar",
        ),
        kind="class",
    )


def _values(found: Examination, album: Album) -> Iterable[Html]:
    drawn = [album.histogram(split) for split in found.survey.looks]
    charts = [_chart(one) for one in drawn if one is not None]
    if charts:
        text = "How often values are, by channel, in some random images of each split."
        yield make("p", text, kind="muted")
        yield make("div", *charts, kind="charts")


def _chart(one: Histogram) -> Html:
    is_grey = (one.counts == one.counts[0]).all()
    counts = one.counts[:1] if is_grey else one.counts
    channels = len(counts)
    colours = _CHANNELS.get(channels) or tuple(
        f"#{bytes(c).hex()}" for c in figures.palette(channels)
    )
    most = max(1, int(counts.max()))
    shapes = [_curve(row / most, colour) for row, colour in zip(counts, colours, strict=True)]
    box = f"0 0 {BINS} {_HEIGHT + 1}"
    label = f"values of {one.images} images of the {one.split} split"
    drawing = make("svg", *shapes, viewBox=box, role="img", aria_label=label)
    ends = make("div", make("span", f"{one.low:g}"), make("span", f"{one.high:g}"), kind="ends")
    caption = make("figcaption", f"{one.split}, {one.images} images")
    return make("figure", drawing, ends, caption)


def _curve(heights: np.ndarray, colour: str) -> Html:
    """Draws a filled curve of heights from 0 to 1, one for each bin."""
    points = [f"{i},{_HEIGHT + 1 - height * _HEIGHT:.2f}" for i, height in enumerate(heights)]
    steps = [f"{point} {i + 1},{point.partition(',')[2]}" for i, point in enumerate(points)]
    outline = f"0,{_HEIGHT + 1} {' '.join(steps)} {BINS},{_HEIGHT + 1}"
    return make(
        "polygon",
        points=outline,
        fill=colour,
        fill_opacity="0.35",
        stroke=colour,
        stroke_width="0.4",
    )


def _recommended(found: Examination, page: str, command: str) -> Iterable[Html]:
    for one in found.recommended:
        setting = f"config.{one.key}={one.value!r}"
        yield make("div", make("code", setting), make("p", one.why), kind="value")
    yield make("h3", "As a page")
    yield make("pre", page, tabindex="0")
    yield make("p", "Train with it:")
    yield make("pre", command, tabindex="0")
    if found.recommended:
        values = " \\\n".join(flag(one.key, one.value) for one in found.recommended)
        yield make("details", make("summary", "As flags"), make("pre", values, tabindex="0"))
