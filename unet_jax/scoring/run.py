"""`--mode=score`: scores masks, whoever predicted them; needs no network, checkpoint or run."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.cards.card import make_card
from unet_jax.cards.judge import Counted
from unet_jax.cards.pages import write_files
from unet_jax.cards.rules import INTERVALS, VOID, say_rules
from unet_jax.config import check_range, check_sections
from unet_jax.data.sources import read_loading
from unet_jax.defaults import complete
from unet_jax.errors import UserError
from unet_jax.metrics import make as metrics
from unet_jax.metrics.choices import Chosen, check_metrics
from unet_jax.process.console import console
from unet_jax.process.paths import local_path
from unet_jax.process.runtime import cores
from unet_jax.runs.provenance import versions, written_command
from unet_jax.scoring.count import MaskCounts, count_masks, of_masks
from unet_jax.scoring.definitions import Scope, find_scopes
from unet_jax.scoring.meaning import FLAG, LABELS, Meaning, find_meaning, read_meaning
from unet_jax.scoring.pairs import find_pairs
from unet_jax.scoring.show import show
from unet_jax.scoring.write import CARD, check_results, write_results

MOST_WIDTH = 1000


def score_folders(
    config: ConfigDict,
    *,
    predictions: str,
    truth: str,
    field_of_view: str = "",
    predictions_are: str | None = None,
    width: int = 0,
    output: str | Path | None = None,
    replace: bool = False,
    names_classes: bool = True,
) -> dict[str, Scope]:
    """Scores predicted masks against true ones by every definition, prints and writes the numbers.

    Args:
        config: The whole config; of it count what the values of true masks mean, and
            config.eval.metrics, config.data.workers and config.data.largest_file.
        predictions: Folder of the predicted masks, or pattern; see `find_pairs`.
        truth: Likewise of the true ones.
        field_of_view: Likewise of the files that are black outside the field of view; "" for none.
        predictions_are: What predicted masks hold; see `read_meaning`.
        width: Of the band along borders, in pixels; 0 for none.
        output: Folder of score.json, score.csv and the card; None to write nothing.
        replace: Whether they are replaced where they are there.
        names_classes: Whether the config says what masks mean; else their values are class ids.

    Returns:
        What was counted, by scope.

    Raises:
        UserError: A flag, the config or the masks do not fit.
    """
    check_range("--trimap", width, 0, MOST_WIDTH)
    for flag, text in (("--predictions", predictions), ("--truth", truth)):
        if not text:
            raise UserError(f"{flag} is missing; give a folder of masks.")
    check_sections(config)
    config = complete(config)
    loading = read_loading(config.data)
    reads = {"workers": loading.workers, "largest": loading.largest_file}
    folder = None if output is None else local_path(output, "--output")
    if folder is not None:
        check_results(folder, replace=replace)
    names = predictions, truth, field_of_view
    if names_classes:
        meaning = read_meaning(config, predictions_are)
        pairs = find_pairs(*names, suffix=meaning.suffix, layers=meaning.layers)
    elif predictions_are == LABELS:
        raise UserError(f"{FLAG}={LABELS} needs a config that says what these are: --config.")
    else:
        pairs = find_pairs(*names)
        meaning = find_meaning(pairs, **reads)
    chosen = check_metrics(config.eval.metrics)
    counted = count_masks(pairs, meaning, chosen=chosen, width=width, **reads)
    scopes = find_scopes(counted, meaning.task, meaning.views, width)
    scores = summarise(counted, meaning)
    left_out = [key for key in of_masks(meaning.task, chosen)[1] if key in chosen]
    says = [*meaning.says, *(f"{key} needs probabilities and is left out" for key in left_out)]
    show(f"{len(pairs)} masks of {predictions} against {truth}", says, scores, scopes)
    if folder is not None:
        given = {"predictions": predictions, "truth": truth, "field_of_view": field_of_view}
        facts = {"versions": versions(), **given, "trimap": width, "assumed": says}
        own = {
            name: array.tolist()
            for name, array in counted.counts.items()
            if name.partition("/")[0] in chosen
        }
        facts |= {"scores": scores, "metrics": own}
        write_results(folder, facts, counted.ids, scopes)
        card = make_score_card(counted, meaning, facts, chosen, config.eval.headline)
        write_files((folder / CARD).parent, Path(CARD).stem, card)
        console.print(f"counts by image and all scores: {folder}")
        console.print(f"card: {folder / CARD}, .md and .html")
    return scopes


def make_score_card(
    counted: MaskCounts,
    meaning: Meaning,
    facts: Mapping[str, Any],
    chosen: Chosen,
    headline: str,
) -> dict[str, Any]:
    """Makes the card of scored masks, whose scores are those of `summarise`.

    Args:
        counted: What was counted.
        meaning: What the masks mean.
        facts: Of score.json.
        chosen: Metrics beside those that every evaluation has.
        headline: Name of the score that counts most; where masks do not suffice for it mIoU does.

    Returns:
        The card.
    """
    headline = headline if headline in facts["scores"] else "mIoU"
    own = counted.ids, (), counted.counts, meaning.task.names, meaning.views
    of_card = Counted(*own, headline)
    rules = ["Masks are compared as they are, pixel by pixel.", VOID, INTERVALS, *facts["assumed"]]
    given = {flag: facts[flag] for flag in ("predictions", "truth", "field_of_view")}
    return make_card(
        of_card,
        title=f"{len(counted.ids)} masks of {given['predictions']} against {given['truth']}",
        data={"source": "masks", **{flag: text for flag, text in given.items() if text}},
        run={
            "evaluated_by": written_command([sys.executable, *sys.argv]),
            "evaluated_on": {"cores": cores(), "versions": versions()},
        },
        rules=[*rules, *say_rules(of_card, chosen)],
    )


def summarise(counted: MaskCounts, meaning: Meaning) -> dict[str, float | None]:
    """Computes the scores that an evaluation has, by the same names, but those of probabilities.

    Args:
        counted: What was counted.
        meaning: What the masks mean.

    Returns:
        By name; None of what is absent.
    """
    made = metrics.of_counts(counted.counts, meaning.task.names, meaning.views)
    return metrics.values(metrics.scores(made, counted.counts))
