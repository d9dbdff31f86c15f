"""Scores of images that are evaluated in tiles."""

import numpy as np
from support.family import make
from support.sources import Sized
from support.tasks import exclusive
from support.tiled import Plain, draw_image

from unet_jax.data.sample import RGB, Sample
from unet_jax.data.sources import Loading
from unet_jax.evaluate import evaluate, summarise
from unet_jax.metrics.choices import check_metrics
from unet_jax.network import TileSettings
from unet_jax.predict.eval_step import evaluation, prediction
from unet_jax.predict.predictor import Predictor, cut
from unet_jax.sharding import make_shardings

SIZES = [(96, 64), (40, 30), (160, 96), (31, 45)]
IGNORE = 255


class Drawn(Sized):
    """Noise, with labels of blocks, some of them ignored."""

    def __init__(self):
        super().__init__(SIZES)

    def read(self, index, window=None):
        size = self.sizes[index]
        small = np.random.default_rng(index).choice([0, 1, 2, IGNORE], size=(30, 30))
        label = np.kron(small, np.ones((7, 7)))[: size[0], : size[1]].astype(np.uint8)
        return Sample(draw_image(size, index), label, self.ids[index], (1.0, 1.0))


def steps(model, outputs):
    given = model, RGB, Loading((16, 16), "crop", 1), make_shardings(1), outputs
    # Of more than 2,000 pixels: the first image and the third.
    return Predictor(*given, TileSettings((24,), 2000)), Predictor(*given)


def test_scores_are_those_of_whole_images():
    model, variables = make("modern", features=(4, 8))
    source, task = Drawn(), exclusive(3)
    # Counted by pixels, by images, and on the host from all of an image.
    chosen = check_metrics({"per_image": {}, "boundary": {}, "calibration": {}})
    tiled, whole = steps(model, evaluation(task, chosen))
    found, expected = (
        evaluate(step, variables, source, batch_size=4, keep=range(4)) for step in (tiled, whole)
    )
    assert found.counts.keys() == expected.counts.keys()
    for name, counts in expected.counts.items():
        np.testing.assert_allclose(found.counts[name], counts, rtol=1e-5, atol=1e-5, err_msg=name)
    for index, label in expected.predictions.items():
        np.testing.assert_array_equal(found.predictions[index], label)
    scores = [summarise(each, task) for each in (found, expected)]
    assert scores[0].keys() == scores[1].keys()
    # Against a loop over the pixels, with labels of a plain call of the network.
    plain = Plain(model, variables)
    for index in (0, 2):
        label = source.read(index).label
        guess = plain(draw_image(SIZES[index], index), (1, 1)).argmax(-1)
        confusion = np.zeros((3, 3), int)
        for k, j in zip(label[label != IGNORE], guess[label != IGNORE], strict=True):
            confusion[k, j] += 1
        np.testing.assert_array_equal(found.counts["overlap/confusion"][index], confusion)


def test_images_of_all_sizes_come_with_their_own_numbers():
    model, variables = make("modern", features=(4, 8))
    tiled, whole = steps(model, prediction(exclusive(3)))
    found, expected = {}, {}
    for step, labels in ((tiled, found), (whole, expected)):
        for batch, result in step.batches(variables, Drawn(), 4):
            assert all(np.asarray(result["is_read"])[: len(batch["index"])])
            labels |= cut(result["prediction"], batch)
    assert sorted(found) == [0, 1, 2, 3]
    for index, label in expected.items():
        np.testing.assert_array_equal(found[index], label)
