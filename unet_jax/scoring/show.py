"""Scores of masks on the console."""

from collections.abc import Iterable, Mapping, Sequence

from unet_jax.process.console import console
from unet_jax.runs.logs import print_scores
from unet_jax.scoring.definitions import DEFINITIONS, KINDS, Scope, score_all

_SHOWN = "pixels", "images, any"  # definitions of the rows of scopes
_WIDTH = 8  # of a number


def show(
    title: str,
    says: Sequence[str],
    scores: dict[str, float | None],
    scopes: Mapping[str, Scope],
) -> None:
    """Prints what was assumed, the scores of an evaluation, every definition, and every scope.

    Args:
        title: Above.
        says: What was assumed.
        scores: By name, as an evaluation has them.
        scopes: Of `find_scopes`.
    """
    whole = scopes["whole"]
    console.print(title)
    for line in says:
        console.print(f"  {line}")
    print_scores("scores by the names of --mode=eval", scores, whole.class_names)
    found = score_all(whole)
    width = max(map(len, (*DEFINITIONS, *scopes)))
    without = f"without {whole.background}" if whole.background else ""
    console.print("")
    console.print(f"{'definition':<{width}}{_row(KINDS)}  {without and _row(KINDS)}  {without}")
    for name, definition in DEFINITIONS.items():
        numbers = [*map(_number, found[name].values())]
        console.print(f"{name:<{width}}{_row(numbers[:2])}  {_row(numbers[2:])}".rstrip())
        console.print(f"    {definition.says} [{definition.of}]")
    heads = (f"{name}: {' and '.join(KINDS)}" for name in _SHOWN)
    console.print("")
    console.print(f"{'what counts':<{width}}{'  '.join(f'{head:>20}' for head in heads)}")
    for name, scope in scopes.items():
        own = score_all(scope)
        pairs = (_row(_number(own[which][kind]) for kind in KINDS) for which in _SHOWN)
        console.print(f"{name:<{width}}{'  '.join(f'{pair:>20}' for pair in pairs)}")
        console.print(f"    {scope.says}: {scope.pixels:,} pixels")


def _row(texts: Iterable[str]) -> str:
    return "".join(f"{text:>{_WIDTH}}" for text in texts)


def _number(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"
