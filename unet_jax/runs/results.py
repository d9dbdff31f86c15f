"""results.json of a run: its scores by entry."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_jax.errors import BrokenFileError
from unet_jax.metrics.names import MEANS, PIXEL_ACCURACY, class_names_of
from unet_jax.process import records
from unet_jax.process.owner import turn
from unet_jax.process.whole import write_text
from unet_jax.runs.layout import RESULTS

_SCORES = (PIXEL_ACCURACY, *MEANS.values())
_RESULTS = {str: {"step": records.Count, str: records.Number}}
_FINISHED = {
    "train": {"step": records.Count, "best_step": records.Count},
    "val": {"step": records.Count, **dict.fromkeys(_SCORES, records.Number)},
}


def says_finished(results: Mapping[str, Any]) -> bool:
    """Tells whether a results.json is that of a run that has taken all its steps."""
    # An evaluation of the training split was once written under this name too.
    return "best_step" in results.get("train", {})


def read_results(workdir: Path) -> dict[str, Any]:
    """Reads results.json.

    Args:
        workdir: The directory.

    Returns:
        The scores by entry; {} where there is no file.

    Raises:
        BrokenFileError: It is not what a run wrote.
    """
    advice = (
        f"put it back, or delete it: training and --mode=eval of --workdir={workdir} write it anew"
    )
    results = records.read_json(workdir / RESULTS, _RESULTS, "what a run wrote", advice) or {}
    if says_finished(results):
        problem = records.mismatch(results, _FINISHED) or _lacks_scores(results["val"])
        if problem:
            raise BrokenFileError(
                f"{workdir / RESULTS} is not what a run wrote ({problem}); {advice}."
            )
    return results


def _lacks_scores(val: Mapping[str, Any]) -> str | None:
    for key in val:
        for name in class_names_of([key]):
            for kind in MEANS:
                if f"{kind}/{name}" not in val:
                    return f"val lacks {f'{kind}/{name}'!r}"
    return None


def write_results(workdir: Path, **results: Any) -> None:
    """Adds entries to results.json, or replaces them; others may do so at the same time."""
    with turn(workdir / RESULTS):
        write_text(workdir / RESULTS, json.dumps(read_results(workdir) | results, indent=2) + "\n")
