"""Figures of a run: segmentation pictures, learning curves, confusion matrices.

The only file that imports matplotlib, and only inside functions, so that importing this module is
cheap. Figures are drawn on an Agg canvas without pyplot and without changing rcParams, because the
trainer calls from a background thread. Every file is written atomically, and the same input gives
the same bytes: Pillow encodes the rendered pixels, so no date or version gets into the file.
"""

import dataclasses
import functools
import io
import math
import numbers
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

IGNORED = 255
"""Label value of pixels that count neither as right nor as wrong."""

ERROR_COLOUR = (214, 0, 84)
"""Wrong pixels: dark and saturated on a light grey picture, so that it is also a contrast in
lightness; `error_map` uses it for nothing else."""

_INK, _MUTED, _RULE = "#1b1b1f", "#60606b", "#d9d9df"
_DPI = 100
_TILE = 256  # width of a shown picture, about, in pixels of the figure
_GAP, _MARGIN, _LINE = 10, 18, 20  # between tiles, around the page, height of a line of text
_MIN_COLUMN = 150  # room for a caption above very narrow pictures
_MAX_STEPS = 6
_MAX_CURVES = 24
_SHORT = 40  # series of fewer values are drawn with markers and not smoothed
_MAX_PRINTED_CLASSES = 25

# Okabe and Ito's eight, black last: as a first class it would hide the picture under the overlay.
_OKABE_ITO = "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 000000"
# Chosen by eye for the next classes, since CIELAB overrates differences between blues.
_NEXT_COLOURS = "713900 c6e28d 8d0071 8de2ff 71712c 8d8dff ffe2c6 2828a0"


# --- colours and pictures -----------------------------------------------------------------------


def _as_seen(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of u8[N,3] colours with normal, protan and deutan sight: float[N,3 sights,3]."""
    srgb = rgb / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    sights = np.array(  # linear RGB; the last two after Machado et al. 2009, full severity
        [
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ],
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ],
        ]
    )
    seen = np.clip(np.einsum("sij,nj->nsi", sights, linear), 0, 1)
    to_xyz = np.array(  # scaled by the D65 white point
        [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]]
    )
    xyz = seen @ to_xyz.T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lightness = 116 * f[..., 1] - 16
    return np.stack(
        [lightness, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


@functools.cache
def _all_colours() -> np.ndarray:
    """All 256 class colours, u8[256,3]; each is the candidate farthest from all before it."""
    levels = np.linspace(0, 255, 10).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness = _as_seen(candidates)[:, 0, 0]  # very dark or pale: no colour under an overlay
    candidates = candidates[(lightness > 30) & (lightness < 92)]
    # Greys are taken by ignored pixels, contours and paper; the error colour by errors.
    reserved = np.array([(255, 255, 255), (190, 190, 190), (110, 110, 110), ERROR_COLOUR], np.uint8)
    seen = _as_seen(candidates)
    distance = np.full(len(candidates), np.inf)
    named = np.array([list(bytes.fromhex(c)) for c in f"{_OKABE_ITO} {_NEXT_COLOURS}".split()])
    colours = list(named.astype(np.uint8))

    def take(lab: np.ndarray) -> None:
        # The sight to which two colours look most alike decides how distinct they are.
        np.minimum(distance, np.linalg.norm(seen - lab, axis=-1).min(axis=-1), out=distance)

    for lab in _as_seen(np.concatenate([reserved, named])):
        take(lab)
    while len(colours) < 256:
        # A candidate taken has distance 0, so it cannot be chosen again.
        best = int(distance.argmax())
        colours.append(candidates[best])
        take(seen[best])
    return np.stack(colours)


def palette(num_classes: int) -> np.ndarray:
    """Distinct class colours that stay apart with the common kinds of colour blindness.

    Args:
        num_classes: K, from 1 to 256.

    Returns:
        uint8[K, 3] RGB, a new array. A class has the same colour whatever K is; the first eight
        are Okabe and Ito's, with black last.

    Raises:
        ValueError: if `num_classes` is outside 1..256.
    """
    if not 1 <= num_classes <= 256:
        raise ValueError(f"num_classes is {num_classes}; a palette has 1 to 256 colours")
    return _all_colours()[:num_classes].copy()


def _hatch(height: int, width: int) -> np.ndarray:
    """Neutral diagonal stripes for ignored pixels, u8[H,W] of 110 and 200."""
    y, x = np.ogrid[:height, :width]
    return np.where((x + y) % 7 < 2, 110, 200).astype(np.uint8)


def _same_size(image: np.ndarray, *labels: np.ndarray) -> None:
    """Raises ValueError unless `image` is [H,W,3] and every label map is [H,W]."""
    shapes = [image.shape, *(label.shape for label in labels)]
    if len(shapes[0]) != 3 or shapes[0][2] != 3 or any(s != shapes[0][:2] for s in shapes[1:]):
        raise ValueError(f"expected a picture [H,W,3] and label maps [H,W], got {shapes}")


def overlay(image: np.ndarray, label: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blends class colours over a picture and draws the class boundaries.

    A boundary is a white line beside a black one, so that it shows on every colour and without
    colour vision; it fades out in speckle. Ignored pixels are hatched in grey.

    Args:
        image: uint8[H, W, 3].
        label: uint8[H, W] class ids; 255 is ignored.
        alpha: weight of the class colours, 0 (picture only) to 1 (colours only).

    Returns:
        uint8[H, W, 3].

    Raises:
        ValueError: if the shapes do not match.
    """
    _same_size(image, label)
    colours = _all_colours()[label]
    ignored = label == IGNORED
    colours[ignored] = _hatch(*label.shape)[ignored][:, None]
    blended = image * (1 - alpha) + colours * alpha
    before, after = np.zeros_like(ignored), np.zeros_like(ignored)
    across, down = label[:, :-1] != label[:, 1:], label[:-1] != label[1:]
    before[:, :-1] |= across
    before[:-1] |= down
    after[:, 1:] |= across
    after[1:] |= down
    # Where classes change at nearly every pixel, contours would hide all colours: fade them out.
    drawn = (before | after).astype(np.uint8) * 255
    crowding = np.asarray(Image.fromarray(drawn).filter(ImageFilter.BoxBlur(3))) / 255
    strength = (np.clip((0.8 - crowding) / 0.3, 0, 1) * (before | after))[..., None]
    line = np.where(before, 255, 0)[..., None]
    return np.rint(blended * (1 - strength) + line * strength).astype(np.uint8)


def error_map(image: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Marks the wrongly classified pixels on a pale grey version of the picture.

    Args:
        image: uint8[H, W, 3].
        label: uint8[H, W] true class ids; 255 is ignored.
        prediction: uint8[H, W] predicted class ids.

    Returns:
        uint8[H, W, 3]: `ERROR_COLOUR` at exactly the wrong pixels, grey stripes of 110 and 200 at
        ignored ones, grey of 150..255 elsewhere.

    Raises:
        ValueError: if the shapes do not match.
    """
    _same_size(image, label, prediction)
    luma = image @ np.array([0.299, 0.587, 0.114])
    marked = np.rint(150 + luma * (105 / 255)).astype(np.uint8)[..., None].repeat(3, axis=-1)
    ignored = label == IGNORED
    marked[ignored] = _hatch(*label.shape)[ignored][:, None]
    marked[(label != prediction) & ~ignored] = ERROR_COLOUR
    return marked


# --- writing ------------------------------------------------------------------------------------


def _write_png(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Writes `image` so that `path` holds either the old file or the whole new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are readable by their owner only, and would stay so.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    try:
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def save_png(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Writes a picture as PNG, atomically.

    Args:
        path: file to write; missing folders are made.
        picture: uint8[H, W, 3] RGB.

    Raises:
        ValueError: if `picture` is not uint8[H, W, 3].
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"expected uint8[H, W, 3], got {picture.dtype}{list(picture.shape)}")
    _write_png(path, Image.fromarray(picture))


def save_indexed_png(path: str | os.PathLike[str], label: np.ndarray, num_classes: int) -> None:
    """Writes class ids as an indexed PNG, which viewers show in the class colours.

    Args:
        path: file to write; missing folders are made.
        label: uint8[H, W] class ids; they are the pixel values of the file. 255 is ignored.
        num_classes: K, from 1 to 256; the file's palette begins with `palette(K)`, the rest is
            grey.

    Raises:
        ValueError: if `label` is not uint8[H, W], has an id that is neither below K nor 255, or
            `num_classes` is outside 1..256.
    """
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ValueError(f"expected uint8[H, W], got {label.dtype}{list(label.shape)}")
    colours = np.full((256, 3), 190, np.uint8)  # grey for ignored pixels
    colours[:num_classes] = palette(num_classes)
    if np.any((label >= num_classes) & (label != IGNORED)):
        raise ValueError(f"the largest class id is {label.max()}, but num_classes is {num_classes}")
    image = Image.fromarray(label)
    image.putpalette(colours.tobytes())
    # A palette of 256 keeps 8 bits per pixel: of fewer, Pillow would cut larger values off.
    _write_png(path, image)


def _new_figure(width: float, height: float) -> Any:
    """An empty white figure of `width` x `height` pixels with an Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Any) -> np.ndarray:
    """Renders a figure to u8[H,W,3]."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def _plain(text: str, limit: int = 0) -> str:
    """Makes any text drawable: no control characters, none that the font lacks (matplotlib warns).

    With `limit`, longer text is cut to so many characters, the last one an ellipsis.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = [get_font(findfont(FontProperties(weight=weight))) for weight in ("normal", "bold")]
    drawn = "".join(
        " " if ord(c) < 32 else c if all(f.get_char_index(ord(c)) for f in fonts) else "?"
        for c in text
    )
    return drawn[: limit - 1] + "…" if limit and len(drawn) > limit else drawn


def _text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in pixels of `text` as drawn on a figure."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(size=size, weight=weight)
    return RendererAgg(1, 1, _DPI).get_text_width_height_descent(text, font, False)[0]


# --- pages of pictures --------------------------------------------------------------------------


@dataclasses.dataclass
class _Page:
    """Text and pictures at exact pixel positions: matplotlib sets the text, tiles are copied."""

    texts: list[tuple[float, float, str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    tiles: list[tuple[int, int, np.ndarray]] = dataclasses.field(default_factory=list)

    def text(
        self, x: float, y: float, text: str, size: float = 9, room: float = math.inf, **style: Any
    ) -> float:
        """Adds text with its baseline at `y`, cut to `room` pixels; returns where it ends."""
        text, weight = _plain(text), style.get("weight", "normal")
        if (width := _text_width(text, size, weight)) > room:
            text = text[: math.ceil(len(text) * room / width) + 8]
        while text and _text_width(text, size, weight) > room:
            text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
        self.texts.append((x, y, text, {"size": size, "color": _INK, **style}))
        return x + _text_width(text, size, weight)

    def save(self, path: str | os.PathLike[str], width: int, height: int) -> None:
        figure = _new_figure(width, height)
        for x, y, text, style in self.texts:
            # Names are not formulas: "$" must not start one.
            figure.text(x / width, 1 - y / height, text, parse_math=False, **style)
        pixels = _pixels(figure)
        for x, y, tile in self.tiles:
            pixels[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        save_png(path, pixels)


def _shown(picture: np.ndarray) -> np.ndarray:
    """Resizes a picture or label map to the width of a column, tall ones to one and a half of it.

    Small pictures are enlarged by a whole number, so that their pixels stay equal squares.
    """
    height, width = picture.shape[:2]
    scale = min(_TILE / width, 1.5 * _TILE / height)
    if scale >= 2:
        scale = round(scale)
    smooth = picture.ndim == 3 and scale < 2
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, method))


def _share_wrong(label: np.ndarray, prediction: np.ndarray) -> str:
    """The share of wrong pixels among those that count, in words."""
    counted = label != IGNORED
    if not counted.any():
        return "all pixels ignored"
    wrong = ((label != prediction) & counted).sum() / counted.sum()
    return "<0.1% wrong" if 0 < wrong < 0.001 else f"{wrong:.1%} wrong"


def _legend(
    labels: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    class_names: Sequence[str],
    errors: bool,
) -> list[tuple[str, np.ndarray]]:
    """Legend entries as (name, swatch u8[13,20,3]); of many classes only those that occur."""
    present = np.zeros(256, bool)
    for ids in (*labels, *predictions):
        present[np.unique(ids)] = True
    swatches = [
        (name, np.broadcast_to(colour, (13, 20, 3)))
        for name, colour, seen in zip(
            class_names, palette(len(class_names)), present[: len(class_names)], strict=True
        )
        if seen or len(class_names) <= 24
    ]
    if any((label == IGNORED).any() for label in labels):
        swatches.append(("ignored", _hatch(13, 20)[..., None].repeat(3, axis=-1)))
    if errors:
        swatches.append(("wrong", np.broadcast_to(np.uint8(ERROR_COLOUR), (13, 20, 3))))
    return swatches


def _add_legend(page: _Page, legend: list[tuple[str, np.ndarray]], y: int, width: int) -> int:
    """Adds the legend in as many lines as it needs; returns the y below it."""
    x = float(_MARGIN)
    for name, swatch in legend:
        need = 26 + min(_text_width(_plain(name), 9), width / 2)
        if x + need > width - _MARGIN and x > _MARGIN:
            x, y = float(_MARGIN), y + _LINE
        framed = np.pad(swatch, ((1, 1), (1, 1), (0, 0)), constant_values=90)
        page.tiles.append((round(x), y, framed))
        x = page.text(x + 27, y + 12, name, room=width / 2) + 18
    return y + _LINE + 10


def _save_pages(
    path: str | os.PathLike[str],
    title: str,
    headings: Sequence[str],
    rows: Sequence[tuple[str, str, Sequence[np.ndarray], Sequence[str]]],
    legend: list[tuple[str, np.ndarray]],
) -> None:
    """Lays out rows of (id, note, tiles, caption of each tile) in columns under `headings`."""
    widths = [
        max(_MIN_COLUMN, *(tiles[column].shape[1] for _, _, tiles, _ in rows))
        for column in range(len(headings))
    ]
    lefts = [_MARGIN + sum(widths[:c]) + _GAP * c for c in range(len(headings))]
    width = lefts[-1] + widths[-1] + _MARGIN
    page = _Page()
    page.text(_MARGIN, _MARGIN + 14, title, 13, width - 2 * _MARGIN, weight="bold")
    y = _add_legend(page, legend, _MARGIN + 30, width)
    for left, heading in zip(lefts, headings, strict=True):
        page.text(left, y + 13, heading, 10.5, weight="bold", color=_MUTED)
    y += _LINE
    for name, note, tiles, captions in rows:
        # The id may run on over the columns without a caption of their own.
        room = next((x for x, c in zip(lefts, captions, strict=True) if c), width) - _MARGIN - _GAP
        noted = _text_width(_plain(note), 9) + 10 if note else 0
        end = page.text(_MARGIN, y + 14, name, 9, room - noted, weight="bold")
        page.text(end + 10, y + 14, note, color=_MUTED)
        for left, caption, tile in zip(lefts, captions, tiles, strict=True):
            page.text(left, y + 14, caption)
            page.tiles.append((left, y + _LINE, np.asarray(tile)))
        y += _LINE + max(tile.shape[0] for tile in tiles) + _GAP
    page.save(path, width, y - _GAP + _MARGIN)


def prediction_grid(
    path: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    class_names: Sequence[str],
    title: str,
    ids: Sequence[str],
    scores: Sequence[float] | None = None,
    score_name: str = "mIoU",
) -> None:
    """Writes a PNG with a row per picture: input, truth, prediction, errors.

    Args:
        path: file to write; missing folders are made.
        images: N >= 1 pictures uint8[H, W, 3]; each may have its own size.
        labels: N true label maps uint8[H, W]; 255 is ignored.
        predictions: N predicted label maps uint8[H, W].
        class_names: K names, by class id.
        title: heading of the figure.
        ids: N names of the pictures.
        scores: N scores shown beside the ids, or None; NaN is shown as "n/a".
        score_name: what the scores are.

    Raises:
        ValueError: if there is no picture, or counts or shapes do not match.
    """
    if not len(images):
        raise ValueError("prediction_grid needs at least one picture")
    notes = [""] * len(images)
    if scores is not None:
        notes = [
            f"{score_name} {s:.3f}" if math.isfinite(s) else f"{score_name} n/a" for s in scores
        ]
    rows = []
    for name, note, image, label, prediction in zip(
        ids, notes, images, labels, predictions, strict=True
    ):
        _same_size(image, label, prediction)
        # Drawn at the size shown: contours and hatching stay fine on enlarged pictures.
        small, truth, guess = _shown(image), _shown(label), _shown(prediction)
        tiles = [
            small,
            overlay(small, truth),
            overlay(small, guess),
            error_map(small, truth, guess),
        ]
        rows.append((name, note, tiles, ["", "", "", _share_wrong(label, prediction)]))
    legend = _legend(labels, predictions, class_names, errors=True)
    _save_pages(path, title, ["input", "truth", "prediction", "errors"], rows, legend)


def prediction_history(
    path: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    history: Sequence[tuple[int, Sequence[np.ndarray]]],
    class_names: Sequence[str],
    ids: Sequence[str],
    title: str = "Predictions during training",
) -> None:
    """Writes a PNG with a row per picture: input, truth, then the prediction at several steps.

    Args:
        path: file to write; missing folders are made.
        images: N >= 1 pictures uint8[H, W, 3]; each may have its own size.
        labels: N true label maps uint8[H, W]; 255 is ignored.
        history: at least one (step, N predicted label maps uint8[H, W]). Of more than six, six
            are shown, spread evenly, the first and the last among them.
        class_names: K names, by class id.
        ids: N names of the pictures.
        title: heading of the figure.

    Raises:
        ValueError: if there is no picture or no step, or counts or shapes do not match.
    """
    if not len(images) or not history:
        raise ValueError("prediction_history needs at least one picture and one recorded step")
    chosen = np.linspace(0, len(history) - 1, min(len(history), _MAX_STEPS)).round().astype(int)
    steps, recorded = zip(*(history[i] for i in chosen), strict=True)
    rows = []
    for name, image, label, guesses in zip(
        ids, images, labels, zip(*recorded, strict=True), strict=True
    ):
        _same_size(image, label, *guesses)
        small = _shown(image)
        tiles = [small, *(overlay(small, _shown(classes)) for classes in (label, *guesses))]
        rows.append((name, "", tiles, ["", "", *(_share_wrong(label, g) for g in guesses)]))
    legend = _legend(labels, [g for maps in recorded for g in maps], class_names, errors=False)
    headings = ["input", "truth", *(f"step {step:,}" for step in steps)]
    _save_pages(path, title, headings, rows, legend)


# --- learning curves ----------------------------------------------------------------------------


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one metric by step; of a step repeated by a resume, the last."""
    points = {
        record["step"]: record[key]
        for record in records
        if _is_finite(record.get("step")) and _is_finite(record.get(key))
    }
    steps = sorted(points)
    return np.array(steps, float), np.array([points[s] for s in steps], float)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving mean over about a twentieth of the values; shorter windows at the ends."""
    window = np.ones(2 * (len(values) // 40) + 1)
    counts = np.convolve(np.ones_like(values), window, "same")
    return np.convolve(values, window, "same") / counts


def _colour(index: int) -> np.ndarray:
    """Class colour as RGB floats, darkened so that its lines show on white."""
    return _all_colours()[index % 256] / 255 * 0.85


def _title(axes: Any, text: str, pad: float = 24) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=_INK, pad=pad)


def _legend_above(axes: Any, handles: list[Any]) -> None:
    """A legend in one line between title and axes, where it covers no curve."""
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.98), "ncols": len(handles)}
    axes.legend(handles=handles, frameon=False, fontsize=9, columnspacing=1.5, **place)


def _noisy_line(
    axes: Any, points: tuple[Any, Any], style: str, colour: int, label: str
) -> list[Any]:
    """Draws a metric of every step: faint as it is and smoothed, or with markers if short."""
    steps, values = points
    look = {"color": _colour(colour), "linewidth": 1.8, "label": label}
    if len(steps) < _SHORT:
        return axes.plot(steps, values, style, marker=".", **look)
    axes.plot(steps, values, color=_colour(colour), alpha=0.25, linewidth=0.7)
    return axes.plot(steps, _smooth(values), style, **look)


def _loss_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    _title(axes, "Loss")
    handles = []
    train, val = _series(records, "train/loss"), _series(records, "val/loss")
    if len(train[0]):
        label = "train" if len(train[0]) < _SHORT else "train (smoothed)"
        handles += _noisy_line(axes, train, "-", 4, label)
    if len(val[0]):
        handles += axes.plot(*val, "--o", color=_colour(5), markersize=4.5, label="val")
    _legend_above(axes, handles)


def _miou_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    _title(axes, "Validation mIoU and pixel accuracy")
    handles = []
    steps, values = _series(records, "val/mIoU")
    if len(steps):
        handles += axes.plot(steps, values, "-o", color=_colour(4), markersize=4.5, label="mIoU")
        best = int(values.argmax())
        # Named in the legend: beside the point, the text would cover the curve.
        label = f"best {values[best]:.4f} at step {steps[best]:,.0f}"
        star = {"color": _INK, "markersize": 13, "linestyle": "", "zorder": 5}
        handles += axes.plot(steps[best], values[best], "*", label=label, **star)
    points = _series(records, "val/pixel_accuracy")
    if len(points[0]):
        look = {"color": _colour(0), "markersize": 4}
        handles += axes.plot(*points, "--s", label="pixel accuracy", **look)
    _legend_above(axes, handles)


def _rate_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    _title(axes, "Learning rate")
    steps, values = _series(records, "learning_rate")
    marker = "." if len(steps) < _SHORT else ""
    label = f"highest {values.max():.3g}, last {values[-1]:.3g}"
    look = {"marker": marker, "color": _colour(2), "linewidth": 1.8}
    _legend_above(axes, axes.plot(steps, values, "-", label=label, **look))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:g}")


def _speed_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import PercentFormatter

    speed, wait = _series(records, "images_per_s"), _series(records, "data_wait")
    _title(axes, "Throughput and waiting for data")
    handles = []
    if len(speed[0]):
        handles += _noisy_line(axes, speed, "-", 4, "images/s")
        axes.set_ylim(0, max(speed[1].max() * 1.1, 1e-9))
        axes.yaxis.set_major_formatter("{x:,g}")
    if len(wait[0]):
        side = axes.twinx() if handles else axes
        handles += _noisy_line(side, wait, "--", 5, "share of time waiting for data")
        side.set_ylim(0, max(0.1, min(1.0, wait[1].max() * 1.25)))
        side.yaxis.set_major_formatter(PercentFormatter(1.0))
        side.spines["top"].set_visible(False)
        side.tick_params(labelsize=9, colors=_MUTED)
    _legend_above(axes, handles)


def _class_curves(
    records: Sequence[Mapping[str, Any]],
) -> list[tuple[np.ndarray, np.ndarray, str, int]]:
    """(steps, IoUs, class, number) of the classes with a value, the best last value first.

    The number counts all classes mentioned, absent ones too, so that it is the class id and its
    colour the one in the pictures.
    """
    validated = [r for r in records if any(key.startswith("val/IoU/") for key in r)]
    keys = {key: None for r in validated for key in r if key.startswith("val/IoU/")}
    curves = [
        (*_series(validated, key), key.removeprefix("val/IoU/"), number)
        for number, key in enumerate(keys)
    ]
    return sorted((c for c in curves if len(c[0])), key=lambda curve: -curve[1][-1])


def _class_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    """One curve per class; the legend is in the order of the last values, best first."""
    styles = ("-", "--", "-.", ":")
    markers = "osD^vP*Xph<>"
    curves = _class_curves(records)
    title = "Validation IoU by class (last value in the legend)"
    if len(curves) > _MAX_CURVES:
        half = _MAX_CURVES // 2
        title = f"Validation IoU: the {half} best and {half} worst of {len(curves)} classes"
        curves = curves[:half] + curves[-half:]
    _title(axes, title, pad=8)
    for steps, values, name, number in curves:
        look = {
            "linestyle": styles[number % len(styles)],
            "marker": markers[number % len(markers)],
            "markevery": max(1, len(steps) // 15),
            "color": _colour(number),
        }
        label = f"{values[-1]:.3f}  {_plain(name, 28)}"
        axes.plot(steps, values, markersize=4.5, label=label, **look)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.03), handlelength=4, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


_PANELS: tuple[tuple[Callable[..., None], tuple[str, ...]], ...] = (
    (_loss_panel, ("train/loss", "val/loss")),
    (_miou_panel, ("val/mIoU", "val/pixel_accuracy")),
    (_rate_panel, ("learning_rate",)),
    (_speed_panel, ("images_per_s", "data_wait")),
)


def _style(axes: Any, steps: np.ndarray) -> None:
    """The look that all panels share, with the same range of steps."""
    from matplotlib.ticker import MaxNLocator

    pad = max(1, 0.02 * (steps.max() - steps.min()))
    axes.set_xlim(steps.min() - pad, steps.max() + pad)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("step", color=_MUTED)
    axes.grid(color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=_MUTED)


def learning_curves(
    path: str | os.PathLike[str], records: Sequence[Mapping[str, float | None]]
) -> None:
    """Writes a PNG with panels of loss, mIoU, learning rate, throughput and IoU by class.

    Args:
        path: file to write; missing folders are made.
        records: parsed lines of a metrics.jsonl: "step" and any of "train/loss", "val/loss",
            "val/mIoU", "val/pixel_accuracy", "val/IoU/<class>", "learning_rate", "images_per_s"
            and "data_wait" (share 0..1). Missing, None and non-finite values are skipped, panels
            without any value are left out, and of a step repeated by a resume the last line counts.
    """
    dated = [record for record in records if _is_finite(record.get("step"))]
    panels = [draw for draw, keys in _PANELS if any(len(_series(dated, k)[0]) for k in keys)]
    classes = min(len(_class_curves(dated)), _MAX_CURVES)
    if not panels and not classes:
        page = _Page()
        page.text(_MARGIN, 40, "No metrics recorded yet", 13)
        page.save(path, 400, 70)
        return
    width, height, left, gap = 1200, 336, 66, 112  # pixels: page, panel with margins, margins
    tall = max(height, 110 + 20 * classes) if classes else 0
    above = height * math.ceil(len(panels) / 2)
    figure = _new_figure(width, above + tall)
    steps = np.array([record["step"] for record in dated], float)

    def add(draw: Callable[..., None], x: float, top: float, wide: float, high: float) -> None:
        box = (x, above + tall - top - high + 46, wide, high - 106)
        axes = figure.add_axes(tuple(np.divide(box, (width, above + tall) * 2)))
        draw(axes, dated)
        _style(axes, steps)

    for index, draw in enumerate(panels):
        half = (width - 2 * left - gap) / 2
        # An odd last panel has the whole line.
        wide = width - 2 * left if index == len(panels) - 1 and index % 2 == 0 else half
        add(draw, left + (index % 2) * (half + gap), index // 2 * height, wide, height)
    if classes:
        add(_class_panel, left, above, width - left - 340, tall)
    save_png(path, _pixels(figure))


# --- confusion matrix ---------------------------------------------------------------------------


def _short_count(count: int) -> str:
    """A pixel count in at most five characters: 950, 12.3k, 4.56M."""
    power = (len(str(count)) - 1) // 3
    # Rounded up, 999,999 would print as 1e+03k.
    return f"{min(count / 1000**power, 999):.3g}{' kMGTPE'[power].strip()}"


def _print_cells(axes: Any, confusion: np.ndarray, shares: np.ndarray) -> None:
    """Prints the percentage and the pixel count into every cell; a bare 0 where there is none."""
    middle = {"ha": "center", "va": "center"}
    for (row, column), share in np.ndenumerate(shares):
        if not np.isfinite(share):
            continue
        if not confusion[row, column]:
            axes.text(column, row, "0", fontsize=7.5, color="#a0a0aa", **middle)
            continue
        strong, weak = ("white", "#e4e4ee") if share > 0.4 else (_INK, _MUTED)
        number = "<0.1%" if share < 0.0005 else f"{share:.1%}"
        weight = "bold" if row == column else "normal"
        look = {"fontsize": 8.5, "color": strong, "fontweight": weight}
        axes.text(column, row - 0.14, number, **look, **middle)
        count = _short_count(int(confusion[row, column]))
        axes.text(column, row + 0.22, count, fontsize=7, color=weak, **middle)


def _heat_map(axes: Any, shares: np.ndarray, names: list[str], size: float, rotate: bool) -> Any:
    """Draws the cells, with class names at the left and the top; returns the colour mapping."""
    from matplotlib.colors import PowerNorm

    k = len(names)
    axes.set_facecolor("#e6e6ea")
    # The square root keeps small confusions visible beside a diagonal near 100 %.
    heat = axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    tilt = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if rotate else {}
    axes.set_xticks(range(k), names, **tilt)
    axes.set_yticks(range(k), names)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("truth", fontsize=10, fontweight="bold", color=_MUTED)
    axes.set_xlabel("prediction", fontsize=10, fontweight="bold", color=_MUTED)
    axes.tick_params(length=0, labelsize=size, pad=4)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set(parse_math=False, color=_INK)
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="white", linewidth=1.5 if k <= _MAX_PRINTED_CLASSES else 0.4)
    axes.spines[:].set_visible(False)
    return heat


def confusion_matrix(
    path: str | os.PathLike[str], confusion: np.ndarray, class_names: Sequence[str]
) -> None:
    """Writes a PNG of a confusion matrix as a heat map of row shares.

    Up to 25 classes each cell has its percentage of the row and its pixel count. Rows of classes
    without a pixel are grey.

    Args:
        path: file to write; missing folders are made.
        confusion: int[K, K] pixel counts >= 0; rows are the truth, columns the prediction.
        class_names: K names, by class id.

    Raises:
        ValueError: if `confusion` is not [K, K].
    """
    k = len(class_names)
    confusion = np.asarray(confusion)
    if confusion.shape != (k, k):
        raise ValueError(f"expected a confusion matrix of {k} classes, got {confusion.shape}")
    printed = k <= _MAX_PRINTED_CLASSES
    names, size = [_plain(name, 28) for name in class_names], 9 if printed else 7
    cell = (100 if k <= 4 else 60) if printed else 14
    label = max(_text_width(name, size) for name in names)
    rotate = label > cell - 6
    above = 0.75 * label if rotate else 16
    side = k * cell
    left, top, right = label + 50, above + 96, max(80, above)
    width, height = left + max(side, 280) + right, top + side + 24
    figure = _new_figure(width, height)
    axes = figure.add_axes((left / width, 24 / height, side / width, side / height))
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, confusion / np.maximum(totals, 1), np.nan)
    heat = _heat_map(axes, shares, names, size, rotate)
    if printed:
        _print_cells(axes, confusion, shares)
    bar_axes = figure.add_axes(
        ((left + side + 18) / width, 24 / height, 12 / width, min(side, 260) / height)
    )
    bar = figure.colorbar(heat, cax=bar_axes, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar_axes.set_yticklabels(["0", "1%", "5%", "20%", "50%", "100%"], fontsize=8, color=_MUTED)
    bar.outline.set_visible(False)
    note = f"share of each true class's pixels; {int(confusion.sum()):,} pixels in all"
    if not totals.all():
        note += "; grey: class without a pixel"
    figure.text(14 / width, 1 - 26 / height, "Confusion matrix", size=13, weight="bold", color=_INK)
    figure.text(14 / width, 1 - 46 / height, note, size=9, color=_MUTED)
    save_png(path, _pixels(figure))
