"""A small folder of images and masks, and what spoils it."""

import numpy as np
from PIL import Image

NAMES = [f"pic_{i}" for i in range(8)]


def save_mask(data, name, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(data / "masks" / f"{name}.png")


def truncated(data):
    file = data / "images" / "pic_3.jpg"
    file.write_bytes(file.read_bytes()[:-200])
