"""What the doctor found, as JSON and in words."""

import json
from typing import Any

from unet_jax.data.sample import written
from unet_jax.doctor.examine import Examination, class_shares
from unet_jax.doctor.faults.intensities import usual_kind
from unet_jax.doctor.finding import Finding
from unet_jax.doctor.mends import flags
from unet_jax.doctor.survey import Survey

FILE = "doctor.json"
VERSION = 1  # of the file's form
KEYS = {"version", "data", "findings", "recommended", "counts"}


def to_json(found: Examination) -> str:
    """Writes what was found; the same text of the same data.

    Args:
        found: What was found.

    Returns:
        JSON with the `KEYS`.
    """
    content = {
        "version": VERSION,
        "data": _data(found),
        "findings": [_finding(one) for one in found.findings],
        "recommended": [one._asdict() for one in found.recommended],
        "counts": {"errors": found.count("error"), "warnings": found.count("warning")},
    }
    return json.dumps(content, indent=2) + "\n"


def _finding(one: Finding) -> dict[str, Any]:
    told = {"files": one.listed()[0], "count": len(one.files)}
    return one._asdict() | told | {"flags": flags(one)}


def _data(found: Examination) -> dict[str, Any]:
    first, survey = found.surveys[0], found.survey
    spec = usual_kind(survey)
    shapes = [one.shape for _, one in survey.all() if one.shape]
    return {
        "source": survey.config.data.source,
        "path": survey.config.data.path,
        "split_by": survey.split_by,
        "splits": {split: len(looks) for split, looks in first.looks.items()},
        "read": sum(not one.failed for _, one in first.all()),
        "images": spec._asdict() if spec else None,
        "smallest": min(shapes, default=None),
        "largest": max(shapes, default=None),
        "classes": [one._asdict() for one in class_shares(survey)],
        "seen_with": {f"config.{key}": value for key, value in found.mended.items()},
    }


def title(found: Examination) -> str:
    """Says what was looked at."""
    config = found.survey.config
    count = sum(map(len, found.surveys[0].looks.values()))
    return f"{count} images of {config.data.path or config.data.source}"


def verdict(found: Examination) -> str:
    """Says how many errors and warnings there are."""
    errors, warnings = found.count("error"), found.count("warning")
    if not errors and not warnings:
        return "nothing is wrong"
    return f"{_number(errors, 'error')}, {_number(warnings, 'warning')}"


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def facts(found: Examination) -> dict[str, str]:
    """Says what the data are, by what it is about."""
    first, survey = found.surveys[0], found.survey
    spec = usual_kind(survey)
    splits = ", ".join(f"{name} {len(looks)}" for name, looks in first.looks.items())
    return {
        "data": survey.config.data.path or f"config.data.source={survey.config.data.source!r}",
        "splits": f"{splits or 'none'}{f' ({survey.split_by})' if survey.split_by else ''}",
        "sizes": _sizes(survey),
        "images": str(spec) if spec else "none could be read",
    }


def _sizes(survey: Survey) -> str:
    shapes = {one.shape for _, one in survey.all() if one.shape}
    axes = {len(shape) for shape in shapes}
    if len(axes) != 1:
        return "not known" if not axes else ", ".join(sorted(map(written, shapes)))
    low, high = (written([f(sides) for sides in zip(*shapes, strict=True)]) for f in (min, max))
    return f"{low} pixels" if low == high else f"{low} to {high} pixels, {len(shapes)} sizes"
