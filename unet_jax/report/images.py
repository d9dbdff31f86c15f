"""Images on which variants disagree most: input, truth, and what each variant predicts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unet_jax.config import call
from unet_jax.data.sample import Sample, Source, Spec, Window, reduced
from unet_jax.errors import UserError
from unet_jax.evaluate import Evaluation, evaluate
from unet_jax.figures.canvas import MUTED, Page
from unet_jax.figures.colours import encode_drawing, overlay
from unet_jax.figures.flat import flat_image, flat_label
from unet_jax.figures.pages import add_legend, legend_entries
from unet_jax.predict.eval_step import make_eval_step
from unet_jax.report.blocks import Block, Section, Strip, Words
from unet_jax.report.drawing import SMALL, wrap
from unet_jax.report.material import Material
from unet_jax.report.pooled import score_images
from unet_jax.report.read import Run
from unet_jax.report.variants import Variant, name_of
from unet_jax.restore import restore
from unet_jax.runs.splits import open_run, pick_split
from unet_jax.task import Task, make_task

TILE, GAP, COLOURS = 140, 8, 160
LINE, MOST_LINES = 15, 5  # of a heading
MIN_WIDTH = 360  # room for the legend
MOST_VARIANTS = 6


class Guess(NamedTuple):
    """What one run predicts on the chosen images.

    Attributes:
        heading: The variant's letter and what tells it from the others.
        labels: uint8 [*n], or [*n, K] by class, by index of the image.
        scores: Of every image alone; NaN where no pixel of it counts.
    """

    heading: str
    labels: dict[int, np.ndarray]
    scores: np.ndarray


class Part:
    """Some images of a source, as a source.

    Attributes:
        class_names: Of the labels.
        task: What a label means.
    """

    def __init__(
        self, source: Source, indices: Sequence[int], class_names: tuple[str, ...], task: Task
    ) -> None:
        """Takes the source and which of its images to keep."""
        self._source, self._indices = source, tuple(indices)
        self.class_names, self.task = class_names, task

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def spec(self) -> Spec:
        """Returns what all images have in common."""
        return self._source.spec

    def reduced(self, size: tuple[int, ...]) -> "Part":
        """Returns the same images decoded at a reduced scale; see `data.sample.Reducible`."""
        return Part(reduced(self._source, size), self._indices, self.class_names, self.task)

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Reads an image; see `unet_jax.data.sample.Source`."""
        return self._source.read(self._indices[index], window)

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels of a label along each axis."""
        return self._source.shape(self._indices[index])

    @property
    def ids(self) -> list[str]:
        """Returns the images' names."""
        return [self._source.ids[index] for index in self._indices]


def images_section(material: Material, count: int) -> Section:
    """Makes the section with images; it trains nothing, but restores checkpoints.

    Args:
        material: The material.
        count: How many images.

    Returns:
        The section; where checkpoints or data are missing it says so.
    """
    several = len(material.pooled.by_image) > 1
    title = "Images on which variants disagree most" if several else "The worst images"
    if not count:
        return Section(title, (Words("Left out by --images=0."),))
    chosen = choose_images(material, count)
    if not chosen:
        return Section(title, (Words("Missing: the runs have no counts by image."),))
    try:
        return Section(title, tuple(_blocks(material, chosen, several)))
    except (UserError, OSError) as error:
        return Section(title, (Words(f"Missing: {' '.join(str(error).split())}"),))


def choose_images(material: Material, count: int) -> list[int]:
    """Chooses images by the spread over variants of their score; of one variant the worst.

    Args:
        material: The material.
        count: How many.

    Returns:
        Their indices, the most telling first; images without a counted pixel are left out.
    """
    scores = list(material.pooled.by_image.values())
    if not scores:
        return []
    values = np.array(scores)
    worst = -values[0] if material.headline.kind.higher_is_better else values[0]
    telling = np.ptp(values, axis=0) if len(scores) > 1 else worst
    order = np.argsort(-telling, kind="stable")
    return [int(i) for i in order if np.isfinite(telling[i])][:count]


def _shown(material: Material) -> list[Variant]:
    """Chooses the baseline, and of many variants those that differ most from the mean."""
    known = [v for v in material.scored if v.key in material.pooled.by_image]
    if len(known) <= MOST_VARIANTS:
        return known
    values = {v.key: material.mean(v) for v in known}
    middle = np.mean(list(values.values()))
    order = sorted(known, key=lambda v: (not v.is_baseline, -abs(values[v.key] - middle)))
    return [v for v in known if v in order[:MOST_VARIANTS]]


def _blocks(material: Material, chosen: list[int], several: bool) -> list[Block]:
    names = [material.pooled.ids[index] for index in chosen]
    shown = _shown(material)
    examples = _open(shown[0].runs[0], material.split, names)
    titles = headings(shown, material.varied)
    guesses = [_guess(material, v, names, title) for v, title in zip(shown, titles, strict=True)]
    score = material.headline.title
    seeds = ", ".join(dict.fromkeys(v.runs[0].seed or "-" for v in shown))
    worst = "lowest" if material.headline.kind.higher_is_better else "highest"
    words = f"Chosen by the spread over variants of the image's own {score} (mean over seeds)"
    words = words if several else f"Those with the {worst} {score} of their own (mean over seeds)"
    words += f"; predictions of each variant's best checkpoint of seed {seeds} alone, with the "
    words += f"{score} of that one."
    if len(shown) < len(material.scored):
        words += f" Of {len(material.scored)} variants {len(shown)}: those farthest from the mean."
    blocks: list[Block] = [Words(words)]
    for place, (index, name) in enumerate(zip(chosen, names, strict=True)):
        caption = name
        if several:
            own = [scores[index] for scores in material.pooled.by_image.values()]
            caption += f": mean {score} over seeds from {min(own):.3f} to {max(own):.3f} over "
            caption += "variants"
        drawn = [(g.heading, f"{score} {g.scores[place]:.3f}", g.labels[place]) for g in guesses]
        example = examples.read(place)
        example = example._replace(label=examples.task.right_mask(example.truth()))
        png = draw(example, drawn, examples.class_names)
        blocks.append(Strip(f"image_{place + 1}", caption, png))
    return blocks


def _open(run: Run, split: str, names: Sequence[str]) -> Part:
    """Opens the images of those names in the data of a run."""
    if run.config is None:
        raise UserError(f"{run.folder} has no config.json.")
    dataset, _ = open_run(run.config.data, run.folder, split, says=False)
    source = pick_split(dataset, split)
    places = {name: index for index, name in enumerate(source.ids)}
    absent = [name for name in names if name not in places]
    if absent:
        raise UserError(
            f"the data of {run.folder.name} are not those it was evaluated on: they have no "
            f"image {absent[0]!r}."
        )
    task = call(make_task, "config.task", run.config.task, class_names=dataset.class_names)
    return Part(source, [places[name] for name in names], dataset.class_names, task)


def headings(variants: Sequence[Variant], varied: Sequence[str]) -> list[str]:
    """Names variants by their letters and only those factors that tell them apart.

    Args:
        variants: Those shown.
        varied: The factors that vary in the study.

    Returns:
        A heading for each.
    """
    own = [name for name in varied if len({v.factors[name] for v in variants}) > 1]
    return [f"{v.key} {name_of(v.factors, own or varied)}" for v in variants]


def _guess(material: Material, variant: Variant, names: Sequence[str], heading: str) -> Guess:
    """Evaluates the first run of a variant on some images."""
    found = predict(variant.runs[0], material.split, names)
    images = score_images(found.counts, material.headline, material.class_names)
    scores = np.full(len(names), np.nan) if images is None else images.value()
    return Guess(heading, found.predictions, scores)


def predict(run: Run, split: str, names: Sequence[str]) -> Evaluation:
    """Restores a run's best checkpoint and evaluates it on some images."""
    config: Any = run.config
    part = _open(run, split, names)
    trained = restore(config, run.folder, "best")
    return evaluate(
        make_eval_step(trained.network),
        trained.variables,
        part,
        batch_size=trained.network.settings.batch_size,
        keep=range(len(part)),
    )


def draw(
    example: Sample, guesses: Sequence[tuple[str, str, np.ndarray]], class_names: Sequence[str]
) -> bytes:
    """Draws a row of tiles: input, truth, predictions, each with a heading.

    Args:
        example: An image with its label; of a volume the middle slice is drawn.
        guesses: Heading, score and predicted mask uint8 [*n], or [*n, K] by class, of each variant.
        class_names: K names.

    Returns:
        A PNG.
    """
    axes = example.image.ndim - 1
    image, label = flat_image(example.image), flat_label(example.truth(), axes)
    guesses = [(heading, score, flat_label(guess, axes)) for heading, score, guess in guesses]
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def resized(tile: np.ndarray) -> np.ndarray:
        is_smooth = tile.ndim == 3 and scale < 2
        method = Image.Resampling.LANCZOS if is_smooth else Image.Resampling.NEAREST
        return np.asarray(Image.fromarray(tile).resize(size, method))

    def resized_mask(mask: np.ndarray) -> np.ndarray:
        if mask.ndim == 2:
            return resized(mask)
        return np.stack([resized(one) for one in np.moveaxis(mask, -1, 0)], axis=-1)

    small = resized(image)
    tiles = [("input", "", small), ("truth", "", overlay(small, resized_mask(label)))]
    for heading, score, guess in guesses:
        tiles.append((heading, score, overlay(small, resized_mask(guess))))
    page, step = Page(), TILE + GAP
    lines = [wrap(heading, TILE, MOST_LINES, "bold") for heading, _, _ in tiles]
    below = 18 + LINE * max(map(len, lines))
    for column, (_, note, tile) in enumerate(tiles):
        left = GAP + column * step
        for row, text in enumerate(lines[column]):
            page.text(left, 18 + LINE * row, text, SMALL, weight="bold")
        page.text(left, below, note, SMALL, color=MUTED)
        page.tiles.append((left, below + 7, tile))
    width = max(MIN_WIDTH, len(tiles) * step + GAP)
    legend = legend_entries([label], [guess for _, _, guess in guesses], class_names, errors=False)
    drawing = page.draw(width, add_legend(page, legend, below + 15 + size[1], width))
    # Tiles have so many colours that those of the legend's small fields would be merged.
    swatches = np.concatenate([swatch.reshape(-1, 3) for _, swatch in legend])
    return encode_drawing(drawing, COLOURS, np.unique(swatches, axis=0))
