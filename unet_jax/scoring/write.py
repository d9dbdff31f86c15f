"""score.json and score.csv: what was counted and what follows, written whole or not at all."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.errors import UserError
from unet_jax.predict.planned import check_output
from unet_jax.process.whole import remove_leftovers, write_text
from unet_jax.scoring.definitions import DEFINITIONS, KINDS, Scope, ratios, score_all

JSON, CSV, CARD = "score.json", "score.csv", "cards/score.json"


def check_results(folder: Path, *, replace: bool) -> None:
    """Checks that the results can be written, before any mask is read.

    Args:
        folder: Where they go, which need not be there.
        replace: Whether results that are there are replaced.

    Raises:
        UserError: They cannot, or are there.
    """
    check_output(folder)
    card = folder / CARD
    pages = (card.with_suffix(ending) for ending in (".md", ".html"))
    for file in (folder / JSON, folder / CSV, card, *pages):
        if os.path.lexists(file) and not (replace and file.is_file()):
            raise UserError(
                f"{file} is there already; replace it with --replace if an earlier score wrote it, "
                "or give another --output."
            )


def write_results(
    folder: Path, facts: Mapping[str, Any], ids: Sequence[str], scopes: Mapping[str, Scope]
) -> None:
    """Writes the results, the table first and what tells that all is there last.

    Args:
        folder: Where to; it is made.
        facts: What goes into score.json beside the scopes.
        ids: Names of the N images.
        scopes: Of `find_scopes`.
    """
    definitions = {
        name: {"says": definition.says, "of": definition.of}
        for name, definition in DEFINITIONS.items()
    }
    own = {name: _facts_of(scope) for name, scope in scopes.items()}
    found = {**facts, "definitions": definitions, "ids": list(ids), "scopes": own}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    write_text(folder / CSV, _table(ids, scopes))
    write_text(folder / JSON, f"{{\n{lines}\n}}\n")


def _facts_of(scope: Scope) -> dict[str, Any]:
    counts = {name: array.tolist() for name, array in scope.sums._asdict().items()}
    names = list(scope.class_names)
    about = {"says": scope.says, "pixels": scope.pixels, "class_names": names}
    return {**about, "scores": score_all(scope), "counts": counts}


def _table(ids: Sequence[str], scopes: Mapping[str, Scope]) -> str:
    """Returns a line for each image, scope and class; no ratio where neither mask has the class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "scope", "class", *next(iter(scopes.values())).sums._fields, *KINDS))
    for name, scope in scopes.items():
        by_kind = [ratios(scope.sums, kind) for kind in KINDS]
        for n, image in enumerate(ids):
            for k, class_name in enumerate(scope.class_names):
                counts = (int(part[n, k]) for part in scope.sums)
                values = ("" if np.isnan(own[n, k]) else float(own[n, k]) for own in by_kind)
                writer.writerow((image, name, class_name, *counts, *values))
    return text.getvalue()
