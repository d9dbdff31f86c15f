import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from support.figure_data import classes, count, make_image, read
from support.paths import ROOT

from unet_jax import figures
from unet_jax.figures import canvas, confusion, curves, pages

# Figures are drawn in the background: nobody would see a warning, and it may hide lost text.
pytestmark = pytest.mark.filterwarnings("error")

ODD_NAMES = ["cat $x^$", "road \u732b\n\u200b", "n" * 300]


def records(n=60):
    return [
        {
            "step": 10 * i,
            "train/loss": 1 / (1 + i),
            "learning_rate": 1e-3,
            "images_per_s": 100.0 + i % 3,
            "data_wait": 0.01,
            **({"val/cross_entropy": 0.5, "val/mIoU": 0.1 + i / 100} if i % 20 == 0 else {}),
            **({"val/pixel_accuracy": 0.6, f"val/IoU/{ODD_NAMES[0]}": 0.7} if i % 20 == 0 else {}),
        }
        for i in range(n)
    ]


def write_grid(path):
    figures.prediction_grid(
        path,
        [make_image(8, 8), make_image(20, 9)],
        [classes(8, 8, 3), classes(20, 9, 3)],
        [classes(8, 8, 3, 1), classes(20, 9, 3, 1)],
        ODD_NAMES,
        "A title",
        ["one", "two"],
    )


def write_history(path):
    steps = [(step, [classes(8, 8, 3, step)]) for step in (0, 5)]
    args = [make_image(8, 8)], [classes(8, 8, 3)], steps, ODD_NAMES, ["one"]
    figures.prediction_history(path, *args)


WRITERS = {
    "indexed": lambda path: figures.save_indexed_png(path, classes(5, 7, 3), 3),
    "grid": write_grid,
    "history": write_history,
    "curves": lambda path: figures.learning_curves(path, records(), "mIoU"),
    "confusion": lambda path: figures.confusion_matrix(path, np.arange(9).reshape(3, 3), ODD_NAMES),
}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())


def test_grid_shows_every_image_with_its_errors(tmp_path):
    images = [make_image(64, 64), make_image(32, 64)]
    labels = [classes(64, 64, 2), classes(32, 64, 2)]
    labels[0][:5] = 255
    guesses = [classes(64, 64, 2, 1), classes(32, 64, 2, 1)]
    figures.prediction_grid(
        tmp_path / "g.png", images, labels, guesses, ["a", "b"], "t", ["p", "q"]
    )
    page = read(tmp_path / "g.png")
    wrong = sum(
        int(((label != guess) & (label != 255)).sum())
        for label, guess in zip(labels, guesses, strict=True)
    )
    # Images 64 wide are shown four times as large; the legend has a swatch of 13 x 20.
    assert count(page, figures.ERROR_COLOUR) == 16 * wrong + 13 * 20
    enlarged = images[1].repeat(4, axis=0).repeat(4, axis=1)
    rows = np.flatnonzero((page[:, 18:274] != 255).any(axis=(1, 2)))
    bottom = rows.max() + 1
    np.testing.assert_array_equal(page[bottom - 128 : bottom, 18:274], enlarged)


@pytest.mark.parametrize("shape", [(64, 64), (300, 200), (150, 220), (3, 700), (700, 3), (1, 1)])
def test_shown_images_have_about_the_width_of_a_column(shape):
    height, width = shape
    shown = pages.shown(make_image(height, width))
    assert pages.shown(classes(height, width, 3)).shape == shown.shape[:2]
    assert shown.shape[1] <= 330
    assert shown.shape[0] <= 500
    assert shown.shape[1] > 200 or shown.shape[0] > 350


def test_large_label_maps_are_shrunk_without_inventing_classes():
    label = np.where(classes(400, 600, 2), 9, 4).astype(np.uint8)
    assert set(np.unique(pages.shown(label))) == {4, 9}


@pytest.mark.parametrize(
    ("truth", "guess", "words"),
    [
        ([0, 1, 255, 255], [0, 0, 0, 0], "50.0% wrong"),
        ([0] * 5000, [1] + [0] * 4999, "<0.1% wrong"),
        ([0, 0], [0, 0], "0.0% wrong"),
        ([255, 255], [0, 1], "all pixels ignored"),
    ],
)
def test_share_of_wrong_pixels_leaves_out_ignored_ones(truth, guess, words):
    assert pages._share_wrong(np.uint8([truth]), np.uint8([guess])) == words


def test_legend_names_classes_ignored_pixels_and_errors():
    label = np.array([[0, 3]], np.uint8)
    names = [str(i) for i in range(30)]
    few = pages.legend_entries([label], [label], names[:4], errors=True)
    assert [name for name, _ in few] == ["0", "1", "2", "3", "wrong"]
    label[0, 0] = 255
    many = pages.legend_entries([label], [label + np.uint8(2)], names, errors=False)
    assert [name for name, _ in many] == ["1", "3", "5", "ignored"]
    assert (many[1][1] == figures.palette(4)[3]).all()


def test_grid_refuses_what_does_not_belong_together(tmp_path):
    image, label = make_image(4, 4), classes(4, 4, 2)
    with pytest.raises(ValueError, match="at least one"):
        figures.prediction_grid(tmp_path / "g.png", [], [], [], ["a", "b"], "t", [])
    with pytest.raises(ValueError, match="shorter"):
        figures.prediction_grid(tmp_path / "g.png", [image], [label], [], ["a", "b"], "t", ["p"])
    with pytest.raises(ValueError, match="at least one"):
        figures.prediction_history(tmp_path / "g.png", [image], [label], [], ["a", "b"], ["p"])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def written(monkeypatch):
    """The texts of the pages saved, as {text: where it ends}."""
    ends = {}
    save = canvas.Page.save

    def record(page, *args):
        for x, _, text, style in page.texts:
            weight = style.get("weight", "normal")
            ends[text] = x + canvas.text_width(text, style["size"], weight)
        save(page, *args)

    monkeypatch.setattr(canvas.Page, "save", record)
    return ends


def test_pages_say_what_they_show(tmp_path, written):
    image, label = make_image(8, 8), np.zeros((8, 8), np.uint8)
    label[:2] = 255
    args = [image] * 2, [label] * 2, [label * 0, label * 0 + 1], ["cat", "dog"], "A title"
    figures.prediction_grid(tmp_path / "g.png", *args, ["p", "q"])
    assert {"A title", "input", "truth", "prediction", "errors"} < set(written)
    assert {"cat", "dog", "ignored", "wrong"} < set(written)
    assert {"p", "0.0% wrong", "q", "100.0% wrong"} < set(written)
    written.clear()
    history = [(0, [label * 0 + 1]), (1500, [label * 0])]
    figures.prediction_history(tmp_path / "h.png", [image], [label], history, ["cat", "dog"], ["p"])
    assert {"p", "step 0", "100.0% wrong", "step 1,500", "0.0% wrong"} < set(written)
    assert "wrong" not in written


def test_long_names_are_cut_to_fit_the_page(tmp_path, written):
    image, label = [make_image(16, 16)], [classes(16, 16, 2)]
    long = "a very long name " * 20
    figures.prediction_grid(tmp_path / "g.png", image, label, label, [long, "b"], long, [long])
    width = read(tmp_path / "g.png").shape[1]
    assert width == 4 * 256 + 3 * 10 + 2 * 18
    assert max(written.values()) <= width - 18
    cut = [text for text in written if text.startswith("a very long name a very")]
    assert len(cut) == 3
    assert all(text.endswith("…") for text in cut)


def test_history_shows_six_steps_with_the_first_and_the_last(tmp_path):
    black, truth = np.zeros((16, 16, 3), np.uint8), np.full((16, 16), 20, np.uint8)
    history = [(100 * i, [np.full((16, 16), i, np.uint8)]) for i in range(13)]
    names = [str(i) for i in range(21)]
    figures.prediction_history(tmp_path / "h.png", [black], [truth], history, names, ["p"])
    page = read(tmp_path / "h.png")
    shown = [i for i in range(13) if count(page, np.rint(figures.palette(13)[i] * 0.5)) > 60_000]
    assert shown == [0, 2, 5, 7, 10, 12]
    figures.prediction_history(tmp_path / "h.png", [black], [truth], history[:1], names, ["p"])
    assert read(tmp_path / "h.png").shape[1] < page.shape[1] / 2


def test_series_skips_what_is_no_number_and_keeps_the_last_line_of_a_step():
    lines = [
        {"step": 20, "x": 1.0},
        {"step": 10, "x": np.float32(2)},
        {"step": 20, "x": 3},
        {"step": 30, "x": float("nan")},
        {"step": 40, "x": None},
        {"step": 50, "x": "NaN"},
        {"step": 60},
        {"x": 5.0},
        {"step": float("inf"), "x": 5.0},
    ]
    steps, values = curves._series(lines, "x")
    assert steps.tolist() == [10, 20]
    assert values.tolist() == [2, 3]


def test_smoothing_is_a_moving_mean():
    values = np.random.default_rng(0).normal(size=100)
    reach = len(values) // 40
    expected = [values[max(0, i - reach) : i + reach + 1].mean() for i in range(100)]
    np.testing.assert_allclose(curves._smooth(values), expected)


def test_class_curves_keep_the_number_of_the_class_when_others_are_absent():
    lines = [{"step": i, "val/IoU/a": None, "val/IoU/b": 0.1, "val/IoU/c": 0.9} for i in (1, 2)]
    lines.append({"step": 3, "val/IoU/a": float("nan"), "val/IoU/c": 0.8})
    assert [(c[2], c[3], len(c[0])) for c in curves._class_curves(lines)] == [
        ("c", 2, 3),
        ("b", 1, 2),
    ]


def test_curves_leave_out_panels_without_data(tmp_path):
    def height(lines):
        figures.learning_curves(tmp_path / "c.png", lines, "mIoU")
        page = read(tmp_path / "c.png")
        assert len(Image.fromarray(page).getcolors(page.size)) > 10
        return page.shape[0]

    row = height([{"step": 1, "train/loss": 1.0}])
    assert height([{"step": 1, "val/cross_entropy": 1.0, "val/mIoU": 0.1}]) == row
    assert height([{"step": 1, "val/pixel_accuracy": 0.1, "data_wait": 0.0}]) == row
    assert height([{"step": 1, "val/IoU/cat": 0.4, "train/loss": None}]) == row
    assert height([{"step": 1, "learning_rate": 0.0, "train/loss": float("nan")}]) == row
    assert height(records()) == 3 * row
    many = {f"val/IoU/{i}": i / 40 for i in range(40)}
    assert height([{"step": 1, **many}, {"step": 2, **many}]) > row
    assert height([]) == height([{"step": 5, "train/loss": float("inf")}]) < row


@pytest.mark.parametrize(("score", "is_higher"), [("mIoU", True), ("distance", False)])
def test_curves_mark_the_best_step(tmp_path, score, is_higher):
    high, low = (0.9, 0.5) if is_higher else (0.5, 0.9)

    def star(best):
        lines = [{"step": i, f"val/{score}": high if i == best else low} for i in range(11)]
        figures.learning_curves(tmp_path / "c.png", lines, score, higher_is_better=is_higher)
        page = read(tmp_path / "c.png")[60:-60]  # without legend and step numbers
        dark = (page == np.array((27, 27, 31))).all(axis=-1)
        return np.flatnonzero(dark[:, 70:].any(axis=0)).mean()  # without the axis

    left, right = star(2), star(8)
    assert right - left == pytest.approx(0.6 * (1200 - 2 * 66) / 1.2, rel=0.1)


def test_confusion_matrix_darkens_full_cells_and_greys_absent_classes(tmp_path):
    def page(confusion):
        names = [f"c{i}" for i in range(len(confusion))]
        figures.confusion_matrix(tmp_path / "c.png", np.array(confusion), names)
        return read(tmp_path / "c.png")

    full, grey, cell = (8, 48, 107), (230, 230, 234), 100 * 100
    perfect, mixed = page([[9, 0], [0, 3]]), page([[6, 4], [4, 6]])
    assert 2 * cell > count(perfect, full) > 1.7 * cell
    assert count(mixed, full) < 0.2 * cell
    shade = colormaps["Blues"](0.4**0.5, bytes=True)[:3]  # shades mean 0 to 100 %, always
    assert count(mixed, shade) > 1.7 * cell
    assert count(perfect, grey) < 0.1 * cell
    assert count(page([[9, 0], [0, 0]]), grey) > 1.8 * cell


def test_confusion_matrix_prints_numbers_up_to_25_classes(tmp_path, monkeypatch):
    printed = []
    draw = confusion._print_cells
    monkeypatch.setattr(
        confusion, "_print_cells", lambda *args: (printed.append(len(args[1])), draw(*args))
    )
    for k in (1, 25, 26):
        names = [f"class {i}" for i in range(k)]
        figures.confusion_matrix(tmp_path / "c.png", np.eye(k, dtype=np.int64) * 12345, names)
    assert printed == [1, 25]
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        figures.confusion_matrix(tmp_path / "c.png", np.ones((2, 3), int), ["a", "b"])


def test_confusion_matrix_has_a_line_more_for_what_was_evaluated(tmp_path, monkeypatch):
    said = []
    draw = confusion.render
    monkeypatch.setattr(
        confusion,
        "render",
        lambda figure: said.append([text.get_text() for text in figure.texts]) or draw(figure),
    )
    for name, title in (("a", ()), ("b", ("test, step 136, 24 images",))):
        figures.confusion_matrix(tmp_path / f"{name}.png", np.eye(2, dtype=int), ["x", "y"], *title)
    note = "share of each true class's pixels; 2 pixels in all"
    assert said[0] == ["Confusion matrix", note]
    assert said[1] == ["Confusion matrix", "test, step 136, 24 images", note]
    heights = [read(tmp_path / f"{name}.png").shape[0] for name in "ab"]
    assert heights[1] - heights[0] == 16


@pytest.mark.parametrize(("count", "smoothed"), [(3, ""), (60, ", smoothed")])
def test_the_losses_say_what_they_are(count, smoothed):
    lines = [{"step": i, "train/loss": 1.0, "val/cross_entropy": 0.5} for i in range(count)]
    axes = canvas.new_figure(400, 300).add_axes((0, 0, 1, 1))
    curves._loss_panel(axes, lines)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"training (all terms{smoothed})", "validation (cross-entropy)"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (12_345, "12.3k"), (999_999, "999k"), (4_560_000, "4.56M")],
)
def test_pixel_counts_are_short(number, text):
    assert confusion._short_count(number) == text


@every_writer
def test_same_input_gives_the_same_bytes(tmp_path, write):
    write(tmp_path / "a.png")
    write(tmp_path / "b.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert not [chunk for chunk in (b"tEXt", b"iTXt", b"tIME") if chunk in data]


@every_writer
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, write, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path):
    (tmp_path / "plain").touch()
    WRITERS["indexed"](tmp_path / "mask.png")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_figures_can_be_written_from_threads(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(write, tmp_path / f"{name}.png") for name, write in WRITERS.items()]
        for job in jobs:
            job.result()
    for name, write in WRITERS.items():
        write(tmp_path / "main.png")
        assert (tmp_path / "main.png").read_bytes() == (tmp_path / f"{name}.png").read_bytes()


def test_importing_is_cheap_and_pyplot_is_never_used(tmp_path):
    code = f"""
import sys
from unet_jax import figures
assert "matplotlib" not in sys.modules
figures.learning_curves({str(tmp_path / "c.png")!r}, [{{"step": 1, "train/loss": 1.0}}], "mIoU")
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
