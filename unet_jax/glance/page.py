"""Writes the page of a run: report.html, one file with all in it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unet_jax.errors import UserError
from unet_jax.glance.embed import embed
from unet_jax.glance.header import evaluation_of, header, title
from unet_jax.glance.material import SHOWN, Evaluated, Material, gather
from unet_jax.html.document import Section, is_free, write_document
from unet_jax.html.elements import Html, make
from unet_jax.metrics.by_image import score_by_image
from unet_jax.process.console import console
from unet_jax.process.whole import write_text
from unet_jax.runs import history, layout

_KINDS = {
    "predictions": ("images", "Images", "Input, truth, prediction and errors of fixed images."),
    "errors": (
        "errors",
        "Errors by class",
        "Light blue is found, orange is missed, dark violet is invented.",
    ),
    "worst": (
        "worst",
        "Worst and median images",
        "The worst ones by the headline, and the median.",
    ),
    "sizes": ("sizes", "Score by size", "How much of true objects is found, by their size."),
    "confusion": ("confusion", "Confusion", "What pixels of each class are taken for."),
    "curves": ("curves", "Curves and reliability", "Of probabilities, before the decision."),
}
_METRICS = {
    "sizes": ("--config.eval.metrics.sizes.classes=()",),
    "curves": (
        "--config.eval.metrics.curves.classes=()",
        "--config.eval.metrics.calibration.temperature=1.0",
    ),
}
"""By figure, the flags that count what it is drawn from."""
_BINS = 20  # of scores of images


def leave_page(workdir: Path) -> None:
    """Writes the page of a run where it can be written; what is wrong is said in a line.

    Args:
        workdir: The run's directory.
    """
    file = workdir / layout.REPORT
    try:
        if not is_free(file, layout.REPORT_BY):
            console.print(f"{file} is no page of a run, and stays as it is.", markup=False)
            return
        write_page(workdir)
        console.print(f"page: {file}", markup=False)
    except (OSError, UserError, ValueError) as error:
        console.print(f"{file} is not written: {error}", markup=False)


def write_page(workdir: Path) -> None:
    """Writes the page of a run from what is on the disk, unless it is there as it is.

    Args:
        workdir: The run's directory, which has a config.

    Raises:
        UserError: What it is drawn from is not what a run wrote.
        OSError: It cannot be written.
    """
    file, text = workdir / layout.REPORT, to_html(gather(workdir))
    if not (file.is_file() and file.read_bytes() == text.encode()):
        write_text(file, text)


def to_html(material: Material) -> str:
    """Writes the page.

    Args:
        material: The run.

    Returns:
        HTML that needs no other file; the same of the same run.
    """
    curves = material.workdir / layout.FIGURES / history.CURVES
    sections = []
    if curves.is_file():
        sections.append(Section("course", "Learning curves", [embed(curves, "learning curves")]))
    shown = [one for one in material.evaluated if one.entry in SHOWN]
    for one in shown[:1]:
        sections += _sections(material, one)
    for one in shown[1:]:
        inner = [e for s in _sections(material, one) for e in (make("h3", s.heading), *s.children)]
        folded = make("details", make("summary", f"Figures of {one.entry}"), *inner)
        sections.append(Section(one.entry, f"The same of {one.entry}", [folded]))
    sections.append(Section("scores", "All scores", list(_scores(material))))
    footer = f"Written from what is in {material.workdir}; the numbers are in {layout.RESULTS}."
    who, head = layout.REPORT_BY, header(material)
    return write_document(title(material), who, head, sections, footer, is_broad=True)


def _sections(material: Material, one: Evaluated) -> Iterator[Section]:
    """Yields the sections of an evaluation."""
    for kind, (name, heading, about) in _KINDS.items():
        children: list[Html] = []
        if kind == "worst":
            children += _distribution(material, one)
        if kind in one.figures:
            children.append(embed(one.figures[kind], f"{heading}, {one.entry}"))
        elif kind in _METRICS:
            command = evaluation_of(material, one.entry, *_METRICS[kind])
            children += [make("p", "Not counted. This counts it:"), make("pre", command)]
        if children:
            yield Section(
                f"{name}-{one.entry}", heading, [make("p", about, kind="muted"), *children]
            )


def _distribution(material: Material, one: Evaluated) -> Iterator[Html]:
    """Draws how often images have which score, where it is from 0 to 1."""
    headline = material.headline
    scores = score_by_image(one.counts, headline.name, one.class_names)
    if scores is None or headline.kind.ends != (0, 1) or np.isfinite(scores).sum() < 2:
        return
    counts, _ = np.histogram(scores[np.isfinite(scores)], _BINS, (0, 1))
    bars = [
        make("rect", x=f"{i + 0.05:.2f}", width="0.9", y=f"{5 - height:.3f}",
             height=f"{height:.3f}", fill="#0072b2")
        for i, height in enumerate(counts / counts.max() * 5)
    ]  # fmt: skip
    label = f"images by {headline.title}"
    yield make("svg", *bars, viewBox=f"0 0 {_BINS} 5", role="img", aria_label=label, kind="small")
    middle = f"images by their {headline.title}, most {counts.max()}"
    yield make("div", make("span", "0"), make("span", middle), make("span", "1"), kind="ends small")


def _scores(material: Material) -> Iterator[Html]:
    """Writes a table of all scores."""
    names = list(dict.fromkeys(name for one in material.evaluated for name in one.scores))
    if not names:
        return
    head = [make("th", "score"), *(make("th", one.entry) for one in material.evaluated)]
    rows = [make("tr", *head)]
    for name in names:
        values = [one.scores.get(name) for one in material.evaluated]
        cells = [make("td", "" if x is None else f"{x:.4f}") for x in values]
        rows.append(make("tr", make("td", name), *cells))
    table = make("div", make("table", *rows), kind="wide", tabindex="0")
    yield make("details", make("summary", f"{len(names)} scores"), table)
