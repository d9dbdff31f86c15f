"""The library: arrays in, what the commands write out."""

import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT
from support.predicting import make_run, predict
from support.tasks import exclusive

import unet_jax
from unet_jax import figures
from unet_jax.predict.eval_step import prediction
from unet_jax.predict.predictor import Predictor

NAMES = ("background", "square", "disc")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.getbasetemp() / "predicting")


@pytest.fixture(scope="module")
def loaded(run):
    return unet_jax.load(run, "latest")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [(9, 13), (32, 32), (57, 31), (1, 70)])
def test_a_prediction_is_the_mask_that_the_command_writes(run, loaded, tmp_path, size):
    image = noise(*size, 3, seed=sum(size))
    Image.fromarray(image).save(tmp_path / "a.png")
    predict(run, [tmp_path / "a.png"], tmp_path / "out")
    mask = loaded.predict(image)
    assert len(np.unique(mask)) > 1 or size[0] == 1
    figures.save_indexed_png(tmp_path / "mine.png", mask, len(loaded.class_names))
    assert (tmp_path / "mine.png").read_bytes() == (tmp_path / "out" / "a.png").read_bytes()
    written = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert (mask.dtype, mask.shape, mask.tobytes()) == (np.uint8, size, written.tobytes())


def test_a_prediction_is_that_of_the_network(run, loaded):
    # Of the size that the network reads, so that nothing is resized; by plain applying.
    from unet_jax.augment.scale import standardise, to_unit
    from unet_jax.data.sample import RGB

    image = noise(32, 32, 3, seed=5)
    model, variables = loaded._step._model, loaded._variables

    @jax.jit
    def apply(variables, image):
        return model.apply(variables, standardise(to_unit(image, RGB.value_range)), train=False)

    logits = apply(variables, image[None])
    expected = np.argmax(np.asarray(logits[0], np.float64), axis=-1)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(loaded.predict(image), expected)


@pytest.mark.parametrize(
    ("change", "value_range"),
    [
        (lambda x: x, (0, 255)),
        (lambda x: x / 255, (0, 1)),
        (lambda x: (x / 127.5 - 1).astype(np.float32), (-1, 1)),
        (lambda x: x.astype(np.uint16) * 257, (0, 65535)),
        (lambda x: (x.astype(np.int64) - 1000).tolist(), (-1000, -745)),
    ],
)
def test_the_users_own_value_range_gives_the_same_mask(loaded, change, value_range):
    image = noise(20, 24, 3, seed=1)
    mask = loaded.predict(change(image), value_range)
    assert mask.tobytes() == loaded.predict(image).tobytes()


def test_a_grey_array_is_a_grey_file(run, loaded, tmp_path):
    image = noise(20, 24, seed=2)
    Image.fromarray(image).save(tmp_path / "a.png")
    predict(run, [tmp_path / "a.png"], tmp_path / "out")
    written = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert loaded.predict(image).tobytes() == written.tobytes()


@pytest.mark.parametrize(
    ("image", "value_range", "says"),
    [
        (np.zeros((3, 8, 9)), None, "shape (3, 8, 9); expected [H, W, 3], or [H, W]"),
        (np.zeros((8, 9, 4), np.uint8), None, "shape (8, 9, 4); expected [H, W, 3]"),
        (
            np.zeros((1, 8, 9, 3), np.uint8),
            None,
            "shape (1, 8, 9, 3); expected [H, W, 3], or [H, W] for grey values. Give several",
        ),
        ([[1, 2], [3]], None, "is no array; expected one [H, W, C]. Give several images as a list"),
        (np.zeros((0, 9, 3), np.uint8), None, "shape (0, 9, 3); expected [H, W, 3]"),
        (5, None, "shape (); expected [H, W, 3]"),
        (
            np.full((8, 9, 3), 0.5),
            None,
            "type float64 and values from 0.5 to 0.5; expected uint8, o",
        ),
        (np.full((8, 9), 1.5), (0, 1), "values from 1.5 to 1.5; expected values from 0 to 1"),
        (np.full((8, 9), np.nan), (0, 1), "values from nan to nan; expected values from 0 to 1"),
        (np.zeros((8, 9)), (1, 1), "value_range=(1, 1) must be two numbers, the lower one first"),
        (np.zeros((8, 9)), (0, np.inf), "value_range=(0, inf) must be two numbers"),
    ],
)
def test_what_is_no_image_is_told_what_is_expected(loaded, image, value_range, says):
    with pytest.raises(unet_jax.UserError) as error:
        loaded.predict(image, value_range)
    assert says in str(error.value)


def test_a_run_says_which_it_is(run, loaded):
    said = repr(loaded)
    assert said == f"Run('{run}', step={loaded.step}, class_names={loaded.class_names})"


@pytest.mark.parametrize("wrong", ["truth", "prediction"])
def test_the_mask_that_holds_no_class_is_named(wrong):
    masks = {"truth": np.array([[0, 1], [255, 0]]), "prediction": np.array([[0, 1], [9, 0]])}
    unet_jax.score(**masks, class_names=NAMES)  # the 9 does not count
    masks[wrong][0, 0] = 128
    with pytest.raises(
        unet_jax.UserError, match=rf"^{wrong} has the class id 128; expected ids bel"
    ):
        unet_jax.score(**masks, class_names=NAMES)


def test_images_of_one_size_compile_one_program(loaded, monkeypatch):
    was = loaded._step
    step = Predictor(was._model, was.spec, was.loading, was.shardings, prediction(exclusive(6)))
    monkeypatch.setattr(loaded, "_step", step)
    for seed in range(3):
        loaded.predict(noise(16, 40, 3, seed=seed))
    assert len(step._programs) == 1


def test_a_sheet_is_the_figure_of_a_run(tmp_path):
    images, masks = [noise(20, 30, 3), noise(8, 9, 3)], [noise(20, 30) % 3, noise(8, 9) % 3]
    guesses = [np.zeros((20, 30), int), np.ones((8, 9), bool)]
    sheet = unet_jax.draw(
        tmp_path / "a.png",
        [images[0] / 255, images[1] / 255],
        masks,
        guesses,
        NAMES,
        title="Two",
        value_range=(0, 1),
    )
    ids, labels = ["image 0", "image 1"], [guess.astype(np.uint8) for guess in guesses]
    figures.prediction_grid(tmp_path / "b.png", images, masks, labels, NAMES, "Two", ids)
    assert sheet == tmp_path / "a.png"
    assert sheet.read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_sheet_of_classes_that_overlap_is_the_figure_of_a_run(tmp_path):
    image, rng = noise(20, 30, 3), np.random.default_rng(0)
    truth = (rng.random((20, 30, 3)) < 0.4).astype(np.uint8)
    truth[:2, 3] = 255
    guess = rng.random((20, 30, 3)) < 0.4
    lists = [image], [truth], [guess]
    sheet = unet_jax.draw(tmp_path / "a.png", *lists, NAMES, by_class=True)
    labels = [guess.astype(np.uint8)]
    figure = [image], [truth], labels, NAMES, "Predictions", ["image 0"]
    figures.prediction_grid(tmp_path / "b.png", *figure)
    assert sheet.read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(unet_jax.UserError, match=r"\(20, 30\); expected \(20, 30, K\), that of"):
        unet_jax.draw(tmp_path / "c.png", [image], [truth], [guess[..., 0]], by_class=True)


@pytest.mark.parametrize(
    ("images", "truths", "predictions", "says"),
    [
        ([], [], [], "0 images, 0 truths and 0 predictions; expected lists of one length"),
        (["i"], ["m"], [], "1 images, 1 truths and 0 predictions; expected"),
        (["i"], ["m"], ["turned"], "predictions[0] has the shape (5, 4); expected (4, 5), that of"),
        (["i"], ["i"], ["m"], "truths[0] has the shape (4, 5, 3); expected (4, 5)"),
        (["m"], ["m"], ["high"], "predictions[0] has the class id 7; expected ids below 3"),
        (["turned", "i"], ["turned", "m"], ["turned", "turned"], "predictions[1] has the shape"),
    ],
)
def test_what_makes_no_sheet(tmp_path, images, truths, predictions, says):
    arrays = {"i": noise(4, 5, 3), "m": noise(4, 5) % 3, "turned": noise(5, 4) % 3}
    arrays["high"] = np.full((4, 5), 7)
    lists = [[arrays[name] for name in part] for part in (images, truths, predictions)]
    with pytest.raises(unet_jax.UserError) as error:
        unet_jax.draw(tmp_path / "a.png", *lists, NAMES)
    assert says in str(error.value)
    assert not (tmp_path / "a.png").exists()


def test_a_page_is_opened_with_values_by_section():
    page = unet_jax.open_page(
        "tiny.py", train={"seed": 3}, data={"synthetic": {"train": 9}}, model={"features": [2, 4]}
    )
    assert (page.train.seed, page.data.synthetic.train, page.model.features) == (3, 9, (2, 4))
    assert page.train.batch_size == unet_jax.open_page(f"{ROOT}/configs/tiny.py").train.batch_size
    for sections, says in {
        (("train", (("sead", 1),)),): "train.sead is not a config key",
        (("train", (("seed", "x"),)),): "train.seed='x' is of type str",
        (("trains", (("seed", 1),)),): "trains.seed is not a config key",
    }.items():
        values = {name: dict(section) for name, section in sections}
        with pytest.raises(unet_jax.UserError, match=re.escape(says)):
            unet_jax.open_page("tiny.py", **values)


@pytest.mark.parametrize("pairs", [{0: 0, 255: 1}, {"0": 0, 255: 1}])
def test_a_dict_for_a_tuple_is_told_to_be_pairs(pairs):
    says = r"label_map=.* is of type dict; .*, of type tuple\. Instead of a dict, such as"
    with pytest.raises(unet_jax.UserError, match=says):
        unet_jax.open_page("folder.py", data={"folder": {"label_map": pairs}})


def test_a_run_is_loaded_from_another_mesh_and_of_no_other_model(run, loaded):
    image = noise(32, 32, 3, seed=3)
    one = unet_jax.load(run, "latest", mesh={"data": 1}, eval={"batch_size": 1})
    assert one.predict(image).tobytes() == loaded.predict(image).tobytes()
    with pytest.raises(unet_jax.UserError, match=r"config\.model\.features"):
        unet_jax.load(run, "latest", model={"features": (2, 2)})
    with pytest.raises(unet_jax.UserError, match=r"--checkpoint='newest' is not known; allowed"):
        unet_jax.load(run, "newest")
    with pytest.raises(unet_jax.UserError, match="does not exist"):
        unet_jax.load(run / "nothing")


def test_training_is_that_of_the_command(tmp_path, command):
    page = unet_jax.open_page("tiny.py", train={"duration": "4 steps"}, mesh={"data": 1})
    run = unet_jax.train(page, tmp_path / "a", train={"seed": 7})
    flags = ("duration=4 steps", "seed=7")
    done = command(
        *("--config=configs/tiny.py", "--config.mesh.data=1", f"--workdir={tmp_path / 'b'}"),
        *(f"--config.train.{flag}" for flag in flags),
        devices=8,  # as here, since cores are shared out among them
    )
    assert done.returncode == 0, done.stderr
    one, other = (
        [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in "ab"
    )
    losses = [x["train/loss"] for x in one if "train/loss" in x]
    assert len(losses) == 4
    assert losses == [x["train/loss"] for x in other if "train/loss" in x]
    assert run.scores == json.loads((tmp_path / "b" / "results.json").read_text())
    assert json.loads((tmp_path / "a" / "run.json").read_text())["overrides"] == {"train.seed": 7}
    assert unet_jax.train(page, tmp_path / "a", train={"seed": 7}).step == run.step
    with pytest.raises(unet_jax.UserError, match=r"config\.train\.seed: 7 -> 0"):
        unet_jax.train(page, tmp_path / "a")


def test_importing_it_is_cheap():
    heavy = ("jax", "numpy", "matplotlib", "ml_collections", "absl", "PIL")
    code = f"import sys, unet_jax; print([x for x in {heavy} if x in sys.modules], unet_jax.train)"
    line = [sys.executable, "-c", code]
    said = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("[] <function train")
