"""Folders with faults for the doctor, the page that it is run with, and what it writes."""

import json

import numpy as np

from support.parsed import Page
from support.planting import draw, save
from unet_jax.page import load_page


def white(seed, mask):
    return np.uint8(mask) * 255


def read_json(folder):
    return json.loads((folder / "doctor.json").read_text())


def zeros_and_255(root):
    draw(root, label=white)


def with_broken_files(root):
    draw(root, label=white)
    (root / "images" / "07.png").write_bytes(b"<html>")
    (root / "masks" / "05.png").unlink()
    save(root / "masks" / "02.png", np.zeros((9, 9), np.uint8))


def stock(root, size=(64, 64)):
    """The stock page of folders with nothing configured but the path."""
    config = load_page("folder.py")
    config.data.path, config.data.image_size = str(root), size
    return config


def read_page(folder):
    return Page((folder / "doctor.html").read_text())
