"""Errors by class against loops over pixels."""

import numpy as np
import pytest
from support.figure_data import classes, count, make_image, read
from support.sight import as_seen

from unet_jax import figures
from unet_jax.figures import errors, pages

COLOURS = {"found": errors.FOUND, "missed": errors.MISSED, "invented": errors.INVENTED}


def slow_kind(truth, guess):
    """Names what one pixel is, of a class that is 1 where it is; 255 is not known."""
    if truth == 255:
        return "ignored"
    return {(1, 1): "found", (1, 0): "missed", (0, 1): "invented", (0, 0): "rest"}[truth, guess]


def layers(label, k, by_class):
    """Returns one class as 1, 0 and 255."""
    if by_class:
        return label[..., k]
    return np.where(label == 255, 255, label == k)


def random_pair(size, k, by_class, seed):
    rng = np.random.default_rng(seed)
    shape = (*size, k) if by_class else size
    label, guess = rng.integers(0, 2 if by_class else k, (2, *shape), np.uint8)
    label[rng.random(shape) < 0.2] = 255
    return label, guess


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("size", "k"), [((9, 14), 3), ((1, 5), 2), ((17, 3), 7), ((4, 4), 1)])
def test_errors_of_a_class_are_those_of_a_loop(size, k, by_class):
    image, (label, guess) = make_image(*size), random_pair(size, k, by_class, seed=1)
    for index in range(k):
        found = errors.class_errors(image, label, guess, index)
        truth, said = (layers(x, index, by_class) for x in (label, guess))
        sums = dict.fromkeys([*COLOURS, "ignored", "rest"], 0)
        for y, x in np.ndindex(size):
            kind = slow_kind(int(truth[y, x]), int(said[y, x]))
            sums[kind] += 1
            pixel = found[y, x]
            if kind in COLOURS:
                assert tuple(pixel) == COLOURS[kind]
            else:
                assert (pixel == pixel[0]).all()
                assert pixel[0] in (110, 200) if kind == "ignored" else pixel[0] >= 150
        want = [sums[kind] for kind in COLOURS]
        assert errors.class_sums(label, guess, index).tolist() == want


def test_three_colours_differ_for_every_sight_from_each_other_and_from_greys():
    greys = [(110,) * 3, (150,) * 3, (200,) * 3, (255,) * 3]
    seen = as_seen(np.array([*COLOURS.values(), *greys], np.uint8))
    for a in range(3):
        for b in range(a):
            assert np.linalg.norm(seen[a] - seen[b], axis=-1).min() > 40
        # Light and dark too, for who sees no colour at all.
        assert np.linalg.norm(seen[a] - seen[3:], axis=-1).min() > 20
    light = np.sort(seen[:3, 0, 0])
    assert np.diff(light).min() > 15


def test_the_classes_that_overlap_least_have_panels():
    label = np.repeat(np.arange(9, dtype=np.uint8), 20).reshape(9, 20)
    guess = label.copy()
    for k in range(8):  # class 8 stays whole, and class 9 is nowhere
        guess[k, : 2 * k] = (k + 1) % 8
    sums = [errors.class_sums(label, guess, k) for k in range(9)]
    order = sorted(range(9), key=lambda k: sums[k][0] / sums[k].sum())
    assert errors.choose_classes([label], [guess], 10) == (order[:6], 3)
    assert errors.choose_classes([label], [label], 10) == ([0, 1, 2, 3, 4, 5], 3)
    ignored = np.full((4, 4), 255, np.uint8)
    assert errors.choose_classes([ignored], [np.zeros((4, 4), np.uint8)], 3) == ([], 0)


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_a_grid_has_a_panel_for_each_of_six_classes(k, tmp_path, monkeypatch):
    given = []
    save = pages.save_pages
    monkeypatch.setattr(errors, "save_pages", lambda *args: (given.append(args), save(*args)))
    images = [make_image(8, 12), make_image(5, 9)]
    labels = [classes(8, 12, k), classes(5, 9, k)]
    guesses = [classes(8, 12, k, seed=3), classes(5, 9, k, seed=4)]
    names, ids = [f"class {i}" for i in range(k)], ["one", "two"]
    file = tmp_path / "e.png"
    figures.class_error_grid(file, images, labels, guesses, names, "title", ids)
    [(_, _, headings, rows, legend, note)] = given
    assert len(headings) == 1 + min(k, 6) == len(rows[0][1])
    assert [name for name, _ in legend] == list(COLOURS)
    assert ("left out: " in note) == (k > 6)
    index = names.index(headings[1])
    truth, guess = (maps[1] == index for maps in (labels, guesses))
    both = (truth & guess).sum()
    if (truth | guess).any() and truth.any():
        assert rows[1][2][1] == f"IoU {both / (truth | guess).sum():.2f}"
    assert count(read(file), errors.FOUND) >= 13 * 20  # in the legend
    with pytest.raises(ValueError, match="at least one"):
        figures.class_error_grid(file, [], [], [], names, "title", [])


def test_captions_of_what_is_not_there():
    assert errors._caption(np.array([0, 0, 0])) == "not there"
    assert errors._caption(np.array([0, 0, 1200])) == "not there, 1,200 px invented"
    assert errors._caption(np.array([0, 5, 0])) == "IoU 0.00"
