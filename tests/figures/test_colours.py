"""Palettes, indexed PNGs, overlays and error maps."""

import numpy as np
import pytest
from PIL import Image
from support import sight
from support.figure_data import classes, make_image, read

from unet_jax import figures

# Figures are drawn in the background: nobody would see a warning, and it may hide lost text.
pytestmark = pytest.mark.filterwarnings("error")


def test_palette_has_distinct_colours_that_do_not_depend_on_the_number_of_classes():
    colours = figures.palette(256)
    assert colours.dtype == np.uint8
    assert len(np.unique(colours, axis=0)) == 256
    assert not (colours == figures.ERROR_COLOUR).all(axis=1).any()
    for k in (1, 2, 9, 100):
        np.testing.assert_array_equal(figures.palette(k), colours[:k])
    np.testing.assert_array_equal(colours[:2], [(230, 159, 0), (86, 180, 233)])


def test_palette_cannot_be_changed_by_a_caller():
    figures.palette(3)[:] = 7
    assert tuple(figures.palette(1)[0]) == (230, 159, 0)


def test_first_colours_stay_apart_for_colour_blind_eyes():
    seen = sight.as_seen(figures.palette(16))
    grey = sight.as_seen(np.full((1, 3), 128, np.uint8))
    np.testing.assert_allclose(grey[..., 1:], 0, atol=0.5)  # a grey is one to every eye
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1).min(axis=-1)
    assert apart[~np.eye(16, dtype=bool)].min() > 10


def test_further_colours_are_the_farthest_from_all_before_them():
    colours = figures.palette(256)
    np.testing.assert_array_equal(sight.spread(colours[:16], 256), colours)


@pytest.mark.parametrize("k", [0, 257])
def test_palette_refuses_impossible_numbers(k):
    with pytest.raises(ValueError, match=str(k)):
        figures.palette(k)


@pytest.mark.parametrize("k", [2, 3, 20, 256])
def test_indexed_png_holds_class_ids_and_palette(tmp_path, k):
    label = classes(9, 5, k)
    label[0, 0], label[1, 1] = 255, k - 1
    figures.save_indexed_png(tmp_path / "new" / "mask.png", label, k)
    with Image.open(tmp_path / "new" / "mask.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), label)
        colours = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(colours[:k], figures.palette(k))
    if k < 256:
        assert tuple(colours[255]) == (190, 190, 190)


def test_png_holds_the_image(tmp_path):
    figures.save_png(tmp_path / "image.png", make_image(4, 6))
    np.testing.assert_array_equal(read(tmp_path / "image.png"), make_image(4, 6))
    with pytest.raises(ValueError, match="float64"):
        figures.save_png(tmp_path / "image.png", make_image(4, 6) / 255)
    with pytest.raises(ValueError, match=r"\[4, 6\]"):
        figures.save_png(tmp_path / "image.png", classes(4, 6, 2))


def test_indexed_png_refuses_ids_without_a_class(tmp_path):
    with pytest.raises(ValueError, match="3"):
        figures.save_indexed_png(tmp_path / "mask.png", np.full((2, 2), 3, np.uint8), 3)
    with pytest.raises(ValueError, match="int64"):
        figures.save_indexed_png(tmp_path / "mask.png", np.zeros((2, 2), np.int64), 3)
    assert not list(tmp_path.iterdir())


def test_overlay_blends_colours_and_draws_a_white_and_a_black_line():
    image, label = make_image(8, 20), np.zeros((8, 20), np.uint8)
    label[:, 10:] = 1
    drawn = figures.overlay(image, label, alpha=0.25)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (drawn[:, 9] == 255).all()
    assert (drawn[:, 10] == 0).all()
    expected = np.rint(image * 0.75 + figures.palette(2)[label] * 0.25)
    for part in (slice(0, 9), slice(11, 20)):
        np.testing.assert_array_equal(drawn[:, part], expected[:, part])
    np.testing.assert_array_equal(
        figures.overlay(image.swapaxes(0, 1), label.T, 0.25), drawn.swapaxes(0, 1)
    )


def test_overlay_hatches_ignored_pixels_and_spares_the_colours_of_speckle():
    black = np.zeros((30, 30, 3), np.uint8)
    hatched = figures.overlay(black, np.full((30, 30), 255, np.uint8), alpha=1)
    assert set(np.unique(hatched)) == {110, 200}
    speckle = np.indices((30, 30)).sum(axis=0).astype(np.uint8) % 2
    np.testing.assert_array_equal(
        figures.overlay(black, speckle, alpha=1), figures.palette(2)[speckle]
    )


def test_error_map_marks_exactly_the_wrong_pixels():
    image, label, prediction = make_image(13, 17), classes(13, 17, 3), classes(13, 17, 3, 1)
    label[::3, ::2] = 255
    prediction[0, 0] = 255  # even then, an ignored pixel is not compared
    marked = figures.error_map(image, label, prediction)
    assert marked.dtype == np.uint8
    for y in range(13):
        for x in range(17):
            wrong = label[y, x] != 255 and label[y, x] != prediction[y, x]
            assert (tuple(marked[y, x]) == figures.ERROR_COLOUR) == wrong
            if not wrong:
                assert len(set(marked[y, x])) == 1
                assert (marked[y, x, 0] in (110, 200)) if label[y, x] == 255 else True
                assert marked[y, x, 0] >= 150 or label[y, x] == 255


@pytest.mark.parametrize("function", [figures.overlay, figures.error_map])
def test_images_of_another_size_are_refused(function):
    labels = [classes(4, 5, 2)] * (1 if function is figures.overlay else 2)
    with pytest.raises(ValueError, match=r"\(5, 4, 3\)"):
        function(make_image(5, 4), *labels)
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        function(classes(4, 5, 2), *labels)
