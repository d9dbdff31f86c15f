"""Pictures on which variants disagree most: input, truth, and what each variant predicts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiments.report import resampling
from experiments.report.blocks import Block, Section, Strip, Words
from experiments.report.material import Material
from experiments.report.read import Run
from experiments.report.variants import Variant
from unet_jax.config import choose
from unet_jax.data.sources import Loading
from unet_jax.data.splits import open_run
from unet_jax.errors import UserError
from unet_jax.eval_step import EvalStep
from unet_jax.evaluate import evaluate
from unet_jax.figures.canvas import MUTED, Page
from unet_jax.figures.colours import encode_drawing, overlay
from unet_jax.figures.pages import add_legend, legend_entries
from unet_jax.trained import restore

TILE, GAP, COLOURS = 140, 8, 160
MIN_WIDTH = 360  # room for the legend
MOST_VARIANTS = 6


class Guess(NamedTuple):
    """What one run predicts on the chosen pictures.

    Attributes:
        heading: The variant's letter and name.
        labels: uint8 [h, w] by index of the picture.
    """

    heading: str
    labels: dict[int, np.ndarray]


class Part:
    """Some pictures of a source, as a source."""

    def __init__(self, source: Any, indices: Sequence[int]) -> None:
        """Takes the source and which of its pictures to keep."""
        self._source, self._indices = source, tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns a picture; see `unet_jax.data.base.Source`."""
        return self._source[self._indices[index]]

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a label."""
        return self._source.size(self._indices[index])

    @property
    def ids(self) -> list[str]:
        """Returns the pictures' names."""
        return [self._source.ids[index] for index in self._indices]


def pictures_section(material: Material, count: int) -> Section:
    """Makes the section with pictures; it trains nothing, but restores checkpoints.

    Args:
        material: The material.
        count: How many pictures.

    Returns:
        The section; where checkpoints or data are missing it says so.
    """
    several = len(material.pooled.by_picture) > 1
    title = "Pictures on which variants disagree most" if several else "The worst pictures"
    if not count:
        return Section(title, (Words("Left out by --pictures=0."),))
    chosen = choose_pictures(material, count)
    if not chosen:
        return Section(title, (Words("Missing: the runs have no counts by picture."),))
    try:
        return Section(title, tuple(_blocks(material, chosen, several)))
    except (UserError, OSError) as error:
        return Section(title, (Words(f"Missing: {' '.join(str(error).split())}"),))


def choose_pictures(material: Material, count: int) -> list[int]:
    """Chooses pictures by the spread over variants of their mIoU; of one variant the worst.

    Args:
        material: The material.
        count: How many.

    Returns:
        Their indices, the most telling first; pictures without a counted pixel are left out.
    """
    scores = list(material.pooled.by_picture.values())
    if not scores:
        return []
    values = np.array(scores)
    telling = np.ptp(values, axis=0) if len(scores) > 1 else -values[0]
    order = np.argsort(-telling, kind="stable")
    return [int(i) for i in order if np.isfinite(telling[i])][:count]


def _shown(material: Material) -> list[Variant]:
    """Chooses the baseline, and of many variants those that differ most from the mean."""
    known = [v for v in material.scored if v.key in material.pooled.by_picture]
    if len(known) <= MOST_VARIANTS:
        return known
    values = {v.key: v.mean(material.split) for v in known}
    middle = np.mean(list(values.values()))
    order = sorted(known, key=lambda v: (not v.is_baseline, -abs(values[v.key] - middle)))
    return [v for v in known if v in order[:MOST_VARIANTS]]


def _blocks(material: Material, chosen: list[int], several: bool) -> list[Block]:
    names = [material.pooled.ids[index] for index in chosen]
    shown = _shown(material)
    examples, _ = _open(shown[0].runs[0], material.split, names)
    guesses = [Guess(v.label, predict(v.runs[0], material.split, names)) for v in shown]
    seeds = ", ".join(dict.fromkeys(v.runs[0].seed or "-" for v in shown))
    words = "Chosen by the spread over variants of the picture's own mIoU (mean over seeds)"
    words = words if several else "Those with the lowest mIoU of their own"
    words += f"; predictions of each variant's best checkpoint, seed {seeds}, with that mIoU."
    if len(shown) < len(material.scored):
        words += f" Of {len(material.scored)} variants {len(shown)}: those farthest from the mean."
    blocks: list[Block] = [Words(words)]
    for place, (index, name) in enumerate(zip(chosen, names, strict=True)):
        caption = name
        if several:
            own = [scores[index] for scores in material.pooled.by_picture.values()]
            caption += f": mIoU from {min(own):.3f} to {max(own):.3f} over variants"
        png = draw(
            examples[place], [(g.heading, g.labels[place]) for g in guesses], material.class_names
        )
        blocks.append(Strip(f"picture_{place + 1}", caption, png))
    return blocks


def _open(run: Run, split: str, names: Sequence[str]) -> tuple[Part, Loading]:
    """Opens the pictures of those names in the data of a run, and says how they are loaded."""
    if run.config is None:
        raise UserError(f"{run.folder} has no config.json.")
    dataset, loading = open_run(run.config.data, run.folder, split, says=False)
    source = choose(dataset.splits, "--split", split)
    places = {name: index for index, name in enumerate(source.ids)}
    absent = [name for name in names if name not in places]
    if absent:
        raise UserError(
            f"the data of {run.folder.name} are not those it was evaluated on: they have no "
            f"picture {absent[0]!r}."
        )
    return Part(source, [places[name] for name in names]), loading


def predict(run: Run, split: str, names: Sequence[str]) -> dict[int, np.ndarray]:
    """Restores a run's best checkpoint and evaluates it on some pictures."""
    config: Any = run.config
    part, loading = _open(run, split, names)
    trained = restore(config, run.folder, "best", loading.image_size)
    return evaluate(
        EvalStep(trained.model, loading, trained.shardings),
        trained.variables,
        part,
        batch_size=config.eval.batch_size,
        keep=range(len(part)),
    ).predictions


def _score(label: np.ndarray, guess: np.ndarray, classes: int) -> float:
    """Returns the mIoU of one picture."""
    counted = label != 255
    pairs = label[counted].astype(np.int64) * classes + guess[counted]
    confusion = np.bincount(pairs, minlength=classes**2).reshape(1, classes, classes)
    return resampling.whole(resampling.count(confusion))


def draw(
    example: dict[str, Any], guesses: Sequence[tuple[str, np.ndarray]], class_names: Sequence[str]
) -> bytes:
    """Draws a row of tiles: input, truth, predictions, each with a heading.

    Args:
        example: "image" uint8 [H, W, 3] and "label" uint8 [H, W].
        guesses: Heading and predicted label map uint8 [H, W] of each variant.
        class_names: K names.

    Returns:
        A PNG.
    """
    image, label = example["image"], example["label"]
    height, width = label.shape
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def resized(picture: np.ndarray) -> np.ndarray:
        is_smooth = picture.ndim == 3 and scale < 2
        method = Image.Resampling.LANCZOS if is_smooth else Image.Resampling.NEAREST
        return np.asarray(Image.fromarray(picture).resize(size, method))

    small = resized(image)
    tiles = [("input", "", small), ("truth", "", overlay(small, resized(label)))]
    for heading, guess in guesses:
        score = f"mIoU {_score(label, guess, len(class_names)):.3f}"
        tiles.append((heading, score, overlay(small, resized(guess))))
    page, step = Page(), TILE + GAP
    for column, (heading, note, tile) in enumerate(tiles):
        left = GAP + column * step
        page.text(left, 18, heading, 9, TILE, weight="bold")
        page.text(left, 33, note, 9, color=MUTED)
        page.tiles.append((left, 40, tile))
    width = max(MIN_WIDTH, len(tiles) * step + GAP)
    legend = legend_entries([label], [guess for _, guess in guesses], class_names, errors=False)
    return encode_drawing(page.draw(width, add_legend(page, legend, 48 + size[1], width)), COLOURS)
