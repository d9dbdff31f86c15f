"""Images and label maps, for the tests of figures."""

import numpy as np
from PIL import Image


def make_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def classes(height, width, k, seed=0):
    return np.random.default_rng(seed).integers(0, k, (height, width), np.uint8)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def count(pixels, colour):
    return int((pixels == np.array(colour)).all(axis=-1).sum())
