"""Weights of classes, against loops over the pixels of the files."""

import numpy as np
import pytest
from PIL import Image

from unet_jax.data import class_weights
from unet_jax.data.class_weights import Counts, balanced, find_rule, median_frequency, weigh
from unet_jax.data.sources import open_data
from unet_jax.errors import UserError
from unet_jax.task import Exclusive, MultiLabel, Regions

NAMES = ("sky", "road", "sign", "never")
SIZES = ((5, 7), (1, 1), (33, 20), (4, 64), (16, 16), (9, 3))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Masks of values 0, 10, 20 and 99, which is ignored, and fields of view."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks", "views"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for index, size in enumerate(SIZES):
        values = [0, 10, 99] if index % 2 else [0, 10, 20, 20, 99]
        mask = rng.choice(np.array(values, np.uint8), size)
        arrays = {
            "images": rng.integers(0, 256, (*size, 3), np.uint8),
            "masks": mask,
            "views": rng.choice(np.array([0, 255], np.uint8), size, p=(0.2, 0.8)),
        }
        arrays["views"].flat[0] = 255
        for kind, array in arrays.items():
            Image.fromarray(array).save(tmp_path / "data" / kind / f"n{index}.png")
    (tmp_path / "data" / "val.txt").write_text("n0\n")
    return tmp_path / "data"


def open_folder(data, **keys):
    given = {"class_names": NAMES, "label_map": ((0, 0), (10, 1), (20, 2), (30, 3))}
    files = {name: f"{name}/{{name}}.png" for name in ("images", "masks")}
    section = {**given, **files, "ignore_values": (99,), "weight": "views/{name}.png", **keys}
    return open_data(source="folder", path=str(data), folder=section)[0].splits["train"]


def loop(data, regions=((0,), (1,), (2,), (3,))):
    """Counts pixel by pixel, in Python."""
    ids = {0: 0, 10: 1, 20: 2}
    pixels, places = [0] * len(regions), [0] * len(regions)
    for index in range(1, len(SIZES)):
        mask = np.asarray(Image.open(data / "masks" / f"n{index}.png"))
        view = np.asarray(Image.open(data / "views" / f"n{index}.png"))
        own, count = [0] * len(regions), 0
        for value, seen in zip(mask.ravel(), view.ravel(), strict=True):
            if int(value) == 99 or not seen:
                continue
            count += 1
            for k, members in enumerate(regions):
                own[k] += ids[int(value)] in members
        pixels = [a + b for a, b in zip(pixels, own, strict=True)]
        places = [a + count * (b > 0) for a, b in zip(places, own, strict=True)]
    return pixels, places


def test_weights_of_a_folder_equal_a_loop_over_its_files(folder):
    pixels, places = loop(folder)
    assert pixels[3] == 0 < min(pixels[:3])
    assert len(set(places)) == 3  # "sign" is not in every image
    source, task = open_folder(folder), Exclusive(NAMES)
    found = weigh("balanced", source, 4, task)
    assert found.pixels == tuple(pixels)
    assert found.weights == pytest.approx([sum(pixels) / (3 * n) if n else 0 for n in pixels])
    shares = [n / m for n, m in zip(pixels, places, strict=True) if n]
    expected = [sorted(shares)[1] / share for share in shares] + [0]
    assert weigh("median_frequency", source, 4, task).weights == pytest.approx(expected)
    said = found.describe(NAMES)
    assert said.startswith("balanced: sky ")
    assert said.endswith("never 0; never is not in the training split")


def test_weights_of_regions(folder):
    regions = ((0, 1, 2), (1, 2), (2,))
    task = Regions(("all", "ground", "sign"), regions, (0, 1, 2))
    pixels, places = loop(folder, regions)
    found = weigh("median_frequency", open_folder(folder), 4, task)
    shares = [n / m for n, m in zip(pixels, places, strict=True)]
    assert found.weights == pytest.approx([sorted(shares)[1] / share for share in shares])
    assert found.pixels == tuple(pixels)
    lacking = Regions(("all", "never"), ((0, 1, 2), (3,)), (0, 3))
    with pytest.raises(
        UserError, match=r"class weights 'balanced' of config\.loss: .* no pixel of never, so"
    ):
        weigh("balanced", open_folder(folder), 4, lacking)


def test_weights_of_classes_that_overlap(tmp_path):
    rng, names = np.random.default_rng(1), ("a", "b")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    pixels, places = np.zeros(2, int), np.zeros(2, int)
    for index, size in enumerate([(5, 7), (3, 9), (8, 2)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(
            tmp_path / "images" / f"n{index}.png"
        )
        masks = rng.choice(np.array([0, 1, 9], np.uint8), (*size, 2), p=(0.5, 0.4, 0.1))
        masks[..., 1] *= index != 2  # "b" is not in every image
        for k, name in enumerate(names):
            Image.fromarray(masks[..., k]).save(tmp_path / "masks" / f"n{index}_{name}.png")
        if index:
            own, count = np.zeros(2, int), 0
            for pair in masks.reshape(-1, 2):
                if 9 not in pair:
                    count, own = count + 1, own + (pair == 1)
            pixels, places = pixels + own, places + count * (own > 0)
    (tmp_path / "val.txt").write_text("n0\n")
    keys = {"class_names": names, "by_class": True, "ignore_values": (9,)}
    source = open_data(source="folder", path=str(tmp_path), folder=keys)[0].splits["train"]
    found = weigh("balanced", source, 2, MultiLabel(names))
    assert found.pixels == tuple(pixels)
    assert found.weights == pytest.approx(pixels.sum() / (2 * pixels))
    shares = pixels / places
    found = weigh("median_frequency", source, 2, MultiLabel(names))
    assert found.weights == pytest.approx(shares.mean() / shares)


def test_labels_are_read_once_until_a_file_changes(folder, monkeypatch):
    read, asked = class_weights.count_label, []

    def count(*given):
        asked.append(1)
        return read(*given)

    monkeypatch.setattr(class_weights, "count_label", count)
    before = weigh("balanced", open_folder(folder), 4, Exclusive(NAMES))
    assert weigh("balanced", open_folder(folder), 4, Exclusive(NAMES)) == before
    assert len(asked) == 5
    Image.fromarray(np.zeros(SIZES[3], np.uint8)).save(folder / "masks" / "n3.png")
    assert weigh("balanced", open_folder(folder), 4, Exclusive(NAMES)) != before
    assert len(asked) == 10


def test_the_equations_by_hand():
    counts = Counts(np.array([90, 9, 1, 0]), np.array([100, 50, 10, 0]))
    assert balanced(counts) == pytest.approx((100 / 270, 100 / 27, 100 / 3, 0))
    assert median_frequency(counts) == pytest.approx((0.18 / 0.9, 1.0, 0.18 / 0.1, 0))
    nothing = Counts(np.zeros(2, int), np.zeros(2, int))
    assert balanced(nothing) == median_frequency(nothing) == (0.0, 0.0)


def test_which_weights_are_a_rule():
    assert find_rule(("balanced",)) == "balanced"
    assert [find_rule(x) for x in ((), (1.0,), ("balanced", 1.0), ("other",))] == [""] * 4
