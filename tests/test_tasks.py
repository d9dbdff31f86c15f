"""Overlapping classes and regions, by command, against a plain network and SciPy."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from support.plain import plain_logits

from unet_jax.config import load
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import open_data
from unet_jax.defaults import page
from unet_jax.evaluate import Evaluation, evaluate_run
from unet_jax.experiment import assemble
from unet_jax.metrics import make
from unet_jax.metrics.base import Outcome
from unet_jax.models.variants import section
from unet_jax.predict.run import predict_run
from unet_jax.report.images import choose_images, images_section
from unet_jax.report.material import gather
from unet_jax.restore import restore
from unet_jax.training import train_and_evaluate

SIZE = 16, 24  # of training
SHAPES = ("disk", "square", "triangle", "ring", "cross")
REGIONS = {"shape": ((1, 2, 3, 4, 5), 1), "angular": ((2, 3, 5), 2), "cross": ((5,), 5)}
CHANNELS = {"multilabel": SHAPES, "regions": tuple(REGIONS)}
SMALL = (
    "data.synthetic.size=20",
    "data.synthetic.train=8",
    "data.synthetic.val=3",
    "data.synthetic.test=4",
    f"data.image_size={SIZE}",
    "augment.flip.left_right=False",
    "augment.flip.up_down=False",
    "model.features=(4,8)",
    "model.repeats=(1,)",
    "model.decoder_repeats=(1,)",
    "loss.cross_entropy.label_smoothing=0.1",
    "train.duration=4 steps",
    "train.eval_every=4 steps",
    "train.checkpoint_every=4 steps",
    "train.batch_size=4",
    "train.log_every=1 step",
    "eval.batch_size=3",
    "mesh.data=1",
)


@pytest.fixture(scope="module", params=CHANNELS)
def run(request, command, tmp_path_factory):
    """Returns the folder of a run, trained by command, with the name of its task."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    values = [f"--config.{text}" for text in SMALL]
    page = f"--config=configs/shapes.py:{request.param}"
    done = command(page, f"--workdir={folder}", *values)
    assert done.returncode == 0, done.stderr
    return folder, request.param


def members(kind, label):
    """Returns which channels are on, bool [H, W, K]; of a label by class those that it says."""
    if kind == "multilabel":
        return label == 1
    return np.stack([np.isin(label, ids) for ids, _ in REGIONS.values()], axis=-1)


def logits_of(trained, image):
    """Returns the logits [h, w, K] of one image uint8 [h, w, 3]."""
    small = np.asarray(Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BILINEAR))
    return plain_logits(trained, small / 255, image.shape[:2])


def read(file):
    with Image.open(file) as image:
        assert image.mode == "P"
        return np.asarray(image)


def predict(config, run, images, folder):
    """Predicts images by name; returns the folder of the results."""
    (folder / "in").mkdir()
    for name, image in images.items():
        Image.fromarray(image).save(folder / "in" / f"{name}.png")
    inputs, output = [str(folder / "in")], folder / "out"
    predict_run(config, run, inputs=inputs, output=str(output), checkpoint="best")
    return output


def test_masks_are_those_of_a_plain_network(run, tmp_path):
    folder, kind = run
    config, trained = (
        load(folder / "config.json"),
        restore(load(folder / "config.json"), folder, "best"),
    )
    drawn = open_data(**config.data)[0].splits["val"].read(0).image
    images = {"a": drawn, "b": drawn[:1, 3:8], "c": np.tile(drawn, (2, 3, 1))[:37, 5:]}
    output = predict(config, folder, images, tmp_path)
    ends = ["", *(f"_{name}" for name in SHAPES)][:: 1 if kind == "multilabel" else 9]
    ends = ends[1:] if kind == "multilabel" else ends
    names = {f"{name}{end}.png" for name in images for end in (*ends, "_overlay")}
    assert {file.name for file in output.iterdir()} == names
    for name, image in images.items():
        probability = expit(logits_of(trained, image).astype(np.float64))
        on, is_sure = probability > 0.5, np.abs(probability - 0.5) > 1e-4
        assert is_sure.mean() > 0.98
        if kind == "multilabel":
            masks = np.stack([read(output / f"{name}_{x}.png") for x in SHAPES], axis=-1)
            np.testing.assert_array_equal(masks[is_sure], on[is_sure])
            assert set(np.unique(masks)) <= {0, 1}
            continue
        mask, expected = read(output / f"{name}.png"), np.zeros(image.shape[:2], int)
        for pixel in np.ndindex(expected.shape):
            for k, (_, written) in enumerate(REGIONS.values()):
                if on[(*pixel, k)]:
                    expected[pixel] = written
        np.testing.assert_array_equal(mask[is_sure.all(-1)], expected[is_sure.all(-1)])


def test_scores_are_counted_channel_by_channel(run, tmp_path):
    folder, kind = run
    config, trained = (
        load(folder / "config.json"),
        restore(load(folder / "config.json"), folder, "best"),
    )
    evaluate_run(config, folder, split="test", checkpoint="best")
    found = json.loads((folder / "results.json").read_text())["test"]
    source = open_data(**config.data)[0].splits["test"]
    samples = [source.read(index) for index in range(len(source))]
    output = predict(config, folder, {x.id: x.image for x in samples}, tmp_path)
    k = len(CHANNELS[kind])
    hit, truth, guess, right = np.zeros((4, k), int)
    loss = elements = 0.0
    for sample in samples:
        on, logits = members(kind, sample.label), logits_of(trained, sample.image)
        p, decided = expit(logits.astype(np.float64)), logits > 0
        if kind == "multilabel":  # as the files say
            files = [read(output / f"{sample.id}_{name}.png") for name in SHAPES]
            assert (np.stack(files, -1) != decided).sum() <= 1
            decided = np.stack(files, -1) > 0
        for place in np.ndindex(on.shape):
            y, said, channel = on[place], decided[place], place[-1]
            hit[channel] += y and said
            truth[channel] += y
            guess[channel] += said
            right[channel] += y == said
            loss -= np.log(p[place]) if y else np.log1p(-p[place])
            elements += 1
    assert found["cross_entropy"] == pytest.approx(loss / elements, rel=1e-4)
    assert found["pixel_accuracy"] == pytest.approx(right.sum() / elements, abs=1e-9)
    present = truth > 0
    assert present.any()
    ious = hit[present] / (truth + guess - hit)[present]
    assert found["mIoU"] == pytest.approx(ious.mean(), abs=1e-9)
    for channel, name in enumerate(CHANNELS[kind]):
        if not present[channel]:
            assert found[f"IoU/{name}"] is None
            continue
        dice = 2 * hit[channel] / (truth + guess)[channel]
        assert found[f"Dice/{name}"] == pytest.approx(dice, abs=1e-9)
        accuracy = hit[channel] / truth[channel]
        assert found[f"accuracy/{name}"] == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (40, 33), (3, 5, 4)])
def test_rows_of_confusion_are_the_truth_of_independent_classes(size):
    """The first class is predicted too often, the second too seldom, the third as it comes."""
    rng = np.random.default_rng(sum(size))
    label, prediction = (rng.random((2, *size, 3)) < share for share in ([0.2, 0.8, 0.5], 0.5))
    weight = rng.random((2, *size)) < 0.8
    expected = np.zeros((3, 2, 2), int)
    for place in np.ndindex(label.shape):
        if weight[place[:-1]]:
            expected[place[-1], int(label[place]), int(prediction[place])] += 1
    if len(weight.ravel()) > 2:
        off, on = expected[:, 0, 1], expected[:, 1, 0]  # false positives and false negatives
        assert off[0] > on[0] > 0
        assert on[1] > off[1] > 0
    logits = loss = np.zeros(label.shape)  # of which the overlap counts nothing
    metrics = make.make_metrics(tuple(map(str, range(logits.shape[-1]))), (), "masks")
    counts = make.count(metrics, Outcome(logits, loss, prediction, label, weight))
    found = Evaluation({name: np.asarray(x) for name, x in counts.items()}, {}).confusion
    np.testing.assert_array_equal(found, expected)


def test_the_first_step_has_the_loss_of_its_equation(run):
    folder, kind = run
    config = load(folder / "config.json")
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    experiment = assemble(config)
    init_key, _ = jax.random.split(jax.random.key(config.train.seed))
    state = experiment.init(init_key)
    order = {"batch_size": 4, "seed": config.train.seed, "start": 0, "stop": 1}
    [batch] = train_batches(experiment.dataset.splits["train"], experiment.loading, **order)
    assert line["step"] == 1
    x = ((batch["image"] / 255 - 0.5) / 0.25).astype(np.float32)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    model = experiment.model
    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    logits, _ = apply(variables, x)
    p, on = expit(np.float64(logits)), members(kind, batch["label"])
    y = 0.9 * on + 0.1 / 2
    entropy = -(y * np.log(p) + (1 - y) * np.log1p(-p)).mean()
    pixels = (0, 1, 2)
    present = on.sum(pixels) > 0
    dice = 1 - 2 * (p * on).sum(pixels) / (p.sum(pixels) + on.sum(pixels))
    expected = entropy + dice[present].mean()
    assert line["train/loss"] == pytest.approx(expected, rel=1e-5)
    right = ((np.asarray(logits) > 0) == on).mean()
    assert line["train/pixel_accuracy"] == pytest.approx(right, abs=1e-6)


def test_what_a_run_leaves_is_drawn(run):
    folder, kind = run
    names = {file.name for file in (folder / "figures").glob("*.png")}
    assert {"confusion_00000004.png", "predictions_00000004.png", "learning_curves.png"} <= names
    results = json.loads((folder / "results.json").read_text())["val"]
    assert {f"IoU/{name}" for name in CHANNELS[kind]} <= set(results)


def test_a_report_has_its_scores_and_images(run):
    folder, kind = run
    trial = {"name": "run", "factors": {"seed": "0"}, "overrides": {}}
    (folder / "trial.json").write_text(json.dumps(trial))
    study = {"study": "", "baseline": {}, "factors": {}, "trials": ["run"]}
    (folder.parent / "study.json").write_text(json.dumps(study))
    material = gather([folder.parent], "val", {}, 50)
    assert material.class_names == CHANNELS[kind]
    assert not material.pooled.notes  # the counts give the scores
    chosen = choose_images(material, 2)
    assert len(chosen) == 2
    words, *strips = images_section(material, 2).blocks
    assert len(strips) == 2, words


def test_a_folder_by_class_with_pixels_to_ignore(tmp_path):
    """In crop mode at odd sizes: scores are those of the files that prediction writes."""
    rng, sizes = (
        np.random.default_rng(0),
        {"a": (9, 13), "sub/b": (17, 8), "c": (16, 16), "d": (1, 7)},
    )
    truth = {}
    for name, size in sizes.items():
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        truth[name] = np.stack([image[..., 0] > 90, image[..., 1] > 150], -1) * np.uint8(255)
        truth[name][rng.random((*size, 2)) < 0.1] = 7
        files = {"images": {name: image}, "masks": {}}
        files["masks"] = {f"{name}_{k}": truth[name][..., i] for i, k in enumerate(("x", "y"))}
        for folder, arrays in files.items():
            for stem, array in arrays.items():
                file = tmp_path / "data" / folder / f"{stem}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(file)
    for split, names in {"train": ("a", "c"), "val": ("sub/b",), "test": ("d",)}.items():
        (tmp_path / "data" / f"{split}.txt").write_text("\n".join(names))
    folder = {"by_class": True, "class_names": ("x", "y"), "ignore_values": (7,)}
    data = {
        "source": "folder",
        "path": str(tmp_path / "data"),
        "image_size": (8, 16),
        "fit": "crop",
    }
    config = page(
        data={**data, "folder": folder},
        task={"kind": "multilabel"},
        model=section(features=(4,), norm="none", repeats=(1,)),
        train={"duration": "2 steps", "batch_size": 2, "eval_every": "2 steps"},
        eval={"batch_size": 2},
        mesh={"data": 1},
    )
    run = tmp_path / "run"
    train_and_evaluate(config, run)
    output = tmp_path / "out"
    inputs = [str(tmp_path / "data" / "images")]
    predict_run(config, run, inputs=inputs, output=str(output), checkpoint="best")
    for split, names in {"val": ["sub/b"], "test": ["d"]}.items():
        evaluate_run(config, run, split=split, checkpoint="best")
        found = json.loads((run / "results.json").read_text())[split]
        hit, on, said, right, total = np.zeros((5, 2), int)
        for name in names:
            masks = [read(output / f"{name}_{k}.png") for k in ("x", "y")]
            for i, j in np.ndindex(sizes[name]):
                if 7 in truth[name][i, j]:
                    continue
                for k in range(2):
                    y, p = truth[name][i, j, k] > 0, masks[k][i, j] > 0
                    hit[k] += y and p
                    on[k] += y
                    said[k] += p
                    right[k] += y == p
                    total[k] += 1
        assert found["pixel_accuracy"] == pytest.approx(right.sum() / total.sum(), abs=1e-9)
        for k, name in enumerate(("x", "y")):
            iou = hit[k] / (on + said - hit)[k] if on[k] else None
            assert found[f"IoU/{name}"] == (iou if iou is None else pytest.approx(iou, abs=1e-9))
    assert (output / "sub" / "b_overlay.png").exists()
