"""Predictions averaged in probability, against each network's own and against NumPy."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from support.predicting import CONFIG, begin_run, draw, tree

from unet_jax.data.formats.base import Header
from unet_jax.data.sample import RGB
from unet_jax.errors import UserError
from unet_jax.given import OneImage
from unet_jax.predict.averaging import check_alike
from unet_jax.predict.inputs import Images
from unet_jax.predict.run import predict_run
from unet_jax.predict.turns import Turn, Turned, find_turns
from unet_jax.task import Exclusive, MultiLabel

SHOWN = ["mask", "probability", "entropy", "disagreement"]


def test_turns_of_an_array():
    array = np.arange(24).reshape(2, 3, 4)
    for turn in itertools.starmap(Turn, itertools.product((False, True), (False, True), range(4))):
        for axes in (2, 3):  # [2, 3, C] and a volume
            turned = turn.apply(array, axes)
            assert turned.shape[:axes] == turn.size(array.shape[:axes])
            assert np.array_equal(turn.undo(turned, axes), array)
    assert np.array_equal(Turn(left_right=True).apply(array, 2), array[:, ::-1])
    assert np.array_equal(Turn(up_down=True).apply(array, 3), array[:, ::-1])
    assert np.array_equal(Turn(quarters=1).apply(array, 2), np.rot90(array))


@pytest.mark.parametrize(
    ("flips", "quarters", "count"),
    [
        ((False, False), (), 1),
        ((True, False), (), 2),
        ((True, True), (), 4),
        ((False, False), (0, 1, 2, 3), 4),
        ((True, False), (0, 1, 2, 3), 8),
        ((True, True), (1, 2), 8),
        ((True, True), (2,), 4),  # which mirroring twice does, too
    ],
)
def test_turns_are_those_of_training(flips, quarters, count):
    augment = {"flip": dict(zip(("left_right", "up_down"), flips, strict=True))}
    augment["turn"] = {"quarters": quarters}
    found = find_turns(ConfigDict(augment), ("background", "lung"))
    assert found[0] == Turn()
    corners = np.arange(6).reshape(2, 3)
    assert len({turn.apply(corners, 2).tobytes() for turn in found}) == len(found) == count
    assert find_turns(augment, ("background", "left_lung", "right_lung")) == (Turn(),)


def test_means_decide_and_entropies_are_those_of_numpy():
    probability = np.array([[0.5, 0.5, 0], [1, 0, 0], [0.2, 0.3, 0.5]], np.float32)
    task = Exclusive(("a", "b", "c"))
    assert task.choose(probability).tolist() == [0, 0, 2]
    expected = [np.log(2), 0, -(0.2 * np.log(0.2) + 0.3 * np.log(0.3) + 0.5 * np.log(0.5))]
    np.testing.assert_allclose(task.entropy(probability), expected, rtol=1e-6)
    task = MultiLabel(("a", "b", "c"))
    assert task.choose(probability)[2].tolist() == [False] * 3
    own = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    np.testing.assert_allclose(task.entropy(probability)[:, 0], [np.log(2), 0, own], atol=1e-6)


TURNING = ConfigDict(CONFIG.to_dict())
TURNING.augment = {"flip": {"left_right": True}, "turn": {"quarters": (0, 1)}}
NAMES = {"a": (37, 23), "b": (37, 23), "c": (70, 41)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder of images, and of two runs of other weights with their predictions."""
    folder = tmp_path_factory.mktemp("averaging")
    for name, size in NAMES.items():
        draw(folder / "photos" / f"{name}.png", size=size)
    for seed, name in enumerate(("one", "two")):
        run = begin_run(folder / name, TURNING, seed)
        predict(run, TURNING, folder / f"{name}_alone", folder / "photos", outputs=SHOWN[:3])
    return folder


def predict(run, config, output, photos, **given):
    predict_run(config, run, inputs=[str(photos)], output=str(output), checkpoint="latest", **given)


def entropy(probability):
    return -(probability * np.log(np.maximum(probability, 1e-30))).sum(axis=-1)


def check(output, expected):
    """Checks that masks and maps are those of the mean of probabilities, by name."""
    for name, several in expected.items():
        mean = np.mean(several, axis=0)
        read = {kind: np.load(output / f"{name}_{kind}.npy") for kind in SHOWN[1:]}
        np.testing.assert_allclose(read["probability"], mean, atol=2e-6)
        np.testing.assert_allclose(read["entropy"], entropy(mean), atol=1e-5)
        differ = entropy(mean) - np.mean([entropy(one) for one in several], axis=0)
        np.testing.assert_allclose(read["disagreement"], differ, atol=1e-5)
        assert read["disagreement"].min() >= 0


def probabilities(output, names=NAMES):
    return {name: np.load(output / f"{name}_probability.npy") for name in names}


def test_one_prediction_has_its_own_entropy(folder):
    for name, own in probabilities(folder / "one_alone").items():
        read = np.load(folder / "one_alone" / f"{name}_entropy.npy")
        np.testing.assert_allclose(read, entropy(own), atol=1e-5)
        assert read.shape == NAMES[name]


def test_runs_are_averaged_in_probability(folder, capsys):
    predict(
        *(folder / "one", TURNING, folder / "both", folder / "photos"),
        outputs=SHOWN,
        ensemble=[str(folder / "two")],
    )
    one, two = (probabilities(folder / f"{name}_alone") for name in ("one", "two"))
    assert max(np.abs(one[name] - two[name]).max() for name in NAMES) > 0.01
    check(folder / "both", {name: [one[name], two[name]] for name in NAMES})
    said = capsys.readouterr().out
    assert "probabilities are means over 2 runs x 1 turns; none is mirrored or turned" in said


def test_mirrored_and_turned_images_are_averaged(folder, tmp_path):
    turned = {  # and back again
        "a": (lambda x: x, lambda x: x),
        "mirrored": (lambda x: x[:, ::-1], lambda x: x[:, ::-1]),
        "turned": (np.rot90, lambda x: np.rot90(x, -1)),
        "both": (lambda x: np.rot90(x[:, ::-1]), lambda x: np.rot90(x, -1)[:, ::-1]),
    }
    with Image.open(folder / "photos" / "c.png") as image:
        pixels = np.asarray(image)
    (tmp_path / "photos").mkdir()
    for name, (forth, _) in turned.items():
        Image.fromarray(np.ascontiguousarray(forth(pixels))).save(
            tmp_path / "photos" / f"{name}.png"
        )
    run = folder / "one"
    predict(run, TURNING, tmp_path / "alone", tmp_path / "photos", outputs=["probability"])
    own = probabilities(tmp_path / "alone", turned)
    photo = folder / "photos" / "c.png"
    predict(run, TURNING, tmp_path / "out", photo, outputs=SHOWN, tta=True)
    check(tmp_path / "out", {"c": [back(own[name]) for name, (_, back) in turned.items()]})


def test_what_cannot_be_averaged_is_told_before_anything_is_written(folder, tmp_path):
    photos = folder / "photos"
    run = folder / "one", TURNING, tmp_path / "out", photos
    with pytest.raises(UserError, match="disagreement takes several predictions"):
        predict(*run, outputs=SHOWN)
    with pytest.raises(
        UserError, match=r"--ensemble=.*photos is no run: .*config\.json is not there"
    ):
        predict(*run, ensemble=[str(photos)])
    assert tree(tmp_path) == {}


def test_runs_of_other_classes_are_refused():
    first, other = (SimpleNamespace(task=Exclusive(names), spec=RGB) for names in ("ab", "ac"))
    check_alike(first, first, "x")
    with pytest.raises(UserError, match=r"^--ensemble=x has other classes than --workdir"):
        check_alike(first, other, "x")
    with pytest.raises(UserError, match="other kind of labels"):
        check_alike(first, SimpleNamespace(task=MultiLabel("ab"), spec=RGB), "x")
    with pytest.raises(UserError, match="other images"):
        check_alike(first, SimpleNamespace(task=first.task, spec=RGB._replace(channels=1)), "x")


def test_images_of_a_source_are_turned():
    image = np.random.default_rng(0).integers(0, 255, (4, 7, 3), np.uint8)
    source = Turned(OneImage(image, RGB), [0, 0], Turn(left_right=True, quarters=1))
    assert (len(source), source.shape(1), source.ids) == (2, (7, 4), ("image", "image"))
    assert np.array_equal(source.read(1).image, np.rot90(image[:, ::-1]))
    assert np.array_equal(source.reduced((14, 8)).read(0).image, source.read(0).image)


def test_images_are_reduced_to_the_size_that_they_have_before_they_are_turned(tmp_path):
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([x * 2, y * 3, x + y], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    images = Images({"a": tmp_path / "a.jpg"}, [Header((64, 96), 3, "uint8", (1.0, 1.0))])
    turn = Turn(up_down=True, quarters=1)
    read = Turned(images, [0], turn).reduced((24, 16)).read(0).image
    small = images.reduced((16, 24)).read(0).image
    assert small.shape == (16, 24, 3)
    assert np.array_equal(read, turn.apply(small, 2))
