"""Labels that what finds, draws or writes objects stumbles over."""

import numpy as np


def _nested(size):
    """Returns frames of 1 and 2 around each other, with nothing between some."""
    y, x = np.indices((size, size))
    ring = np.minimum.reduce([y, x, size - 1 - y, size - 1 - x])
    return np.array([1, 0, 2, 2, 0, 1])[ring % 6].astype(np.uint8)


def _text(*rows):
    return np.array([[*map(int, row)] for row in rows], np.uint8)


def odd_labels():
    """Returns labels uint8 [H, W] of classes 0, 1 and 2 by name; 0 is the background."""
    rng = np.random.default_rng(0)
    checks = (np.indices((7, 6)).sum(axis=0) % 2).astype(np.uint8)
    dots = np.ones((11, 9), np.uint8)
    dots[1::2, 1::2] = 0
    full = np.ones((5, 8), np.uint8)
    middle = np.zeros((4, 5), np.uint8)
    middle[2, 3] = 2
    return {
        "empty": np.zeros((3, 4), np.uint8),
        "full": full,
        "one pixel": middle,
        "a single pixel": np.ones((1, 1), np.uint8),
        "a row": _text("0110212"),
        "a column": _text("0110212").T.copy(),
        "diagonals": np.eye(6, dtype=np.uint8) + 2 * np.eye(6, dtype=np.uint8)[::-1] % 3,
        "checkerboard": checks,
        "checkerboard of two": checks + 1,
        "holes that touch": _text("11111", "10111", "11011", "11101", "11111"),
        "a hole that touches the outside": _text("0000", "0111", "0101", "0110"),
        "a hole at a corner": _text("1110", "1011", "1111"),
        "holes in a row": dots,
        "nested": _nested(17),
        "a spiral": _text(
            "1111111", "0000001", "1111101", "1000101", "1011101", "1000001", "1111111"
        ),
        "at the border": _text("1001", "0000", "2002"),
        **{
            f"random {p}": (rng.random((23, 31)) < p).astype(np.uint8) for p in (0.1, 0.5, 0.6, 0.9)
        },
        "random of three": rng.integers(0, 3, (29, 13)).astype(np.uint8),
    }
