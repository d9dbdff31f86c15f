"""Writes the README's table of results from the cards in docs/cards.

python -m experiments.results
python -m experiments.results --add=runs/pets/cards/test_00001234.json --name=pets_14_minutes_seed_0

The second command adds a card to docs/cards under a name, and writes the table again. A row of the
table is of all cards whose name begins with the row's: of several seeds. A card is what an
evaluation wrote; --mode=verify computes its numbers again.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

from unet_jax.cards.card import find_wrong, read_card, write_card
from unet_jax.cards.pages import to_markdown
from unet_jax.errors import UserError

ADD = flags.DEFINE_string("add", None, "A card to add to docs/cards.")
NAME = flags.DEFINE_string("name", None, "The name of the card to add, ROW_seed_N.")

ROOT = Path(__file__).parents[1]
CARDS, README = ROOT / "docs" / "cards", ROOT / "README.md"
BEGIN, END = "<!-- results: python -m experiments.results -->", "<!-- end of results -->"
_NAME = re.compile(r"[a-z0-9_]+_seed_\d+")
_OWN = r"workdir|output|config\.data\.path|config\.train\.seed"
"""Flags that the table leaves out, whose values are a user's own."""
_HEAD = "| data, classes | command | test score | 95% interval | time |\n|---|---|---|---|---|"


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: What the names of its cards begin with, before "_seed_N".
        data: What it is about.
        scores: Names of scores, and how they are called in the table.
    """

    name: str
    data: str
    scores: dict[str, str]


_PETS = {"mIoU": "mIoU", "border_as_pet/IoU/pet": "pet IoU, border as pet,"}
ROWS = (
    Row("shapes", "synthetic shapes, 6", {"mIoU": "mIoU"}),
    Row("pets_15_minutes", "Oxford-IIIT Pet at 128x128, 3", _PETS),
    Row("pets_1_hour", "Oxford-IIIT Pet at 128x128, 3", _PETS),
    Row("pets_1_hour_own_size", "the same network, 41 of the images at their own sizes", _PETS),
    Row("camvid", "CamVid at 360x480, 11", {"mIoU": "mIoU"}),
    Row("isbi_em", "ISBI EM, 6 slices of 512x512, 2", {"V_rand": "V_rand", "V_info": "V_info"}),
)


def table(folder: Path, rows: Sequence[Row] = ROWS) -> str:
    """Writes the table of all rows that have cards.

    Args:
        folder: Of the cards.
        rows: What it can have.

    Returns:
        Markdown.

    Raises:
        UserError: A card cannot be read.
    """
    lines = [_HEAD]
    for row in rows:
        files = sorted(folder.glob(f"{row.name}_seed_*.json"))
        if files:
            lines.append(_line(row, [(file, read_card(file)) for file in files]))
    return "\n".join(lines)


def _line(row: Row, cards: list[tuple[Path, dict[str, Any]]]) -> str:
    links = ", ".join(
        f"[{file.stem.rpartition('_')[2]}](docs/cards/{file.stem}.md)" for file, _ in cards
    )
    scores, ends = [], []
    for name, called in row.scores.items():
        own = [card["scores"][name] for _, card in cards]
        scores.append(f"{called} {', '.join(_short(score['value']) for score in own)}")
        given = [f"{s['low']:.3f} to {s['high']:.3f}" if "low" in s else "none" for s in own]
        ends.append(", ".join(given))
    runs = [card["run"] for _, card in cards]
    command = runs[0].get("command", runs[0]["evaluated_by"])
    command = re.sub(rf" --({_OWN})=\S+", "", command).removeprefix("python -m unet_jax.main ")
    seeds = f"seed{'s' if len(cards) > 1 else ''} {links}"
    over = "; ".join(ends)
    over = over if " to " in over else "none"
    cells = [row.data, f"`{command}`, {seeds}", "; ".join(scores), over, _time(runs)]
    return f"| {' | '.join(cells)} |"


def _short(value: float | None) -> str:
    return "absent" if value is None else f"{value:.3f}"


def _time(runs: Sequence[dict[str, Any]]) -> str:
    """Says how long training took, on what; nothing of masks that were scored."""
    if any("minutes" not in run for run in runs):
        return ""
    low, high = (f"{f(run['minutes'] for run in runs):.0f}" for f in (min, max))
    devices = runs[0]["devices"]
    on = f"{devices['count']} x {devices['kind']}"
    if devices["platform"] == "cpu":
        on = f"{runs[0]['cores']} CPU cores"
    return f"{low} minutes on {on}" if low == high else f"{low} to {high} minutes each on {on}"


def put_table(text: str, written: str) -> str:
    """Puts the table into a README, between the marks that are there.

    Args:
        text: Of the README.
        written: The table.

    Returns:
        The README with it.
    """
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def add(file: Path, name: str, folder: Path) -> None:
    """Adds a card to a folder, as JSON and as Markdown.

    Args:
        file: The card.
        name: Its name there.
        folder: The folder.

    Raises:
        UserError: It is no card, its numbers are wrong, or the name does not fit.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--name={name} must be ROW_seed_N, such as shapes_seed_0.")
    card = read_card(file)
    if wrong := find_wrong(card, file):
        raise UserError(f"--add={file}: {wrong[0]}.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(write_card(card))
    (folder / f"{name}.md").write_text(page(card, name))


def page(card: dict[str, Any], name: str) -> str:
    """Writes a card's page of the documentation, in Markdown, under its name there."""
    return to_markdown(card | {"title": f"{name}: {card['title']}"}, f"docs/cards/{name}.json")


def main(argv: list[str]) -> None:
    """Adds a card where one is given, and writes the table."""
    del argv
    try:
        if ADD.value:
            add(Path(ADD.value), NAME.value or "", CARDS)
        README.write_text(put_table(README.read_text(), table(CARDS)))
    except UserError as error:
        raise app.UsageError(str(error)) from None


if __name__ == "__main__":
    app.run(main)
