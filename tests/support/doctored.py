"""Folders with faults for the doctor, the page that it is run with, and what it writes."""

import json
from html.parser import HTMLParser

import numpy as np

from support.planting import draw, save
from unet_jax.page import load_page

VOID = {"meta", "img", "br", "hr", "link", "input"}


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


class Page(HTMLParser):
    """Reads a page: its elements, texts by element, and whether elements are closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]

    def text(self, tag):
        return [text for name, text in self.texts if name == tag]


def read_page(folder):
    return Page((folder / "doctor.html").read_text())
