"""Images of labels by class, where a pixel may be of several."""

import numpy as np
import pytest
from support.figure_data import count, make_image, read

from unet_jax import figures
from unet_jax.figures import confusion, pages

SIZE = (9, 14)


def layers(k, seed=0):
    """Blocks of 3x3 and more pixels, each on or off, in every class."""
    coarse = np.random.default_rng(seed).integers(0, 2, (3, 5, k), np.uint8)
    return coarse.repeat(3, 0).repeat(3, 1)[: SIZE[0], : SIZE[1]]


def test_a_pixel_of_several_classes_has_the_mean_of_their_colours():
    image, label = make_image(*SIZE), layers(3)
    label[:3, :3] = 255
    colours, found = figures.palette(3), figures.overlay(image, label, alpha=0.5)
    seen = set()
    for y, x in np.ndindex(SIZE):
        near = label[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        if (near != label[y, x]).any() or (near == 255).all():
            continue  # a boundary, or ignored
        on = [colours[k] for k in range(3) if label[y, x, k] == 1]
        expected = image[y, x] / 2 + np.mean(on, axis=0) / 2 if on else image[y, x]
        np.testing.assert_allclose(found[y, x], expected, atol=0.5)
        seen.add(len(on))
    assert seen >= {0, 1, 2}
    np.testing.assert_allclose(found[1, 1], image[1, 1] / 2 + 200 / 2, atol=0.5)  # between stripes


def test_a_boundary_is_where_any_class_begins():
    image, label = np.full((*SIZE, 3), 128, np.uint8), np.zeros((*SIZE, 2), np.uint8)
    label[:, 4:, 0], label[:, 10:, 1] = 1, 1
    found = figures.overlay(image, label)
    assert (found[:, [3, 9]] == 255).all()
    assert (found[:, [4, 10]] == 0).all()


def test_errors_are_where_a_known_class_is_wrong():
    image, label, guess = make_image(*SIZE), layers(3), layers(3, seed=1)
    label[2, :, 0] = 255  # of which one class is not known
    wrong = np.zeros(SIZE, bool)
    for y, x in np.ndindex(SIZE):
        wrong[y, x] = y != 2 and any(label[y, x] != guess[y, x])
    marked = figures.error_map(image, label, guess)
    np.testing.assert_array_equal((marked == figures.ERROR_COLOUR).all(-1), wrong)
    assert set(np.unique(marked[2])) == {110, 200}
    share = wrong.sum() / (SIZE[0] - 1) / SIZE[1]
    assert pages._share_wrong(label, guess) == f"{share:.1%} wrong"


def test_a_legend_names_classes_that_are_somewhere():
    label, names = np.zeros((*SIZE, 30), np.uint8), [str(k) for k in range(30)]
    label[0, 0, 7], label[1, 1] = 1, 255
    guess = np.zeros_like(label)
    guess[3, 3, 29] = 1
    found = [name for name, _ in pages.legend_entries([label], [guess], names, errors=False)]
    assert found == ["7", "29", "ignored"]


def test_pages_of_labels_by_class(tmp_path):
    images, labels = [make_image(*SIZE)], [layers(2)]
    names, ids = ("disk", "ring"), ["a"]
    figures.prediction_grid(tmp_path / "g.png", images, labels, labels, names, "t", ids)
    figures.prediction_history(tmp_path / "h.png", images, labels, [(1, labels)], names, ids)
    assert count(read(tmp_path / "g.png"), figures.ERROR_COLOUR) == 13 * 20  # in the legend
    assert read(tmp_path / "h.png").shape[1] > 3 * 256
    with pytest.raises(ValueError, match="label maps"):
        figures.overlay(images[0], labels[0][1:])


def test_a_confusion_matrix_of_independent_classes(tmp_path, monkeypatch):
    printed = []
    draw = confusion._print_cells
    monkeypatch.setattr(
        confusion, "_print_cells", lambda *args: (printed.append(args[1:]), draw(*args))
    )
    counts = np.array([[[50, 10], [5, 35]], [[90, 0], [0, 10]], [[100, 0], [0, 0]]])
    figures.confusion_matrix(tmp_path / "c.png", counts, ["disk", "ring", "cross"])
    [(cells, shares)] = printed
    # On in the first row and the first column.
    assert cells.tolist() == [[35, 5], [10, 50], [10, 0], [0, 90], [0, 0], [0, 100]]
    np.testing.assert_allclose(shares[:2], [[35 / 40, 5 / 40], [10 / 60, 50 / 60]])
    assert np.isnan(shares[4]).all()
    assert count(read(tmp_path / "c.png"), (230, 230, 234)) > 1.5 * 60 * 60
