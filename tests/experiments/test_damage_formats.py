"""A part of `python -m experiments.damage.formats`: one line, or what the library reads."""

import numpy as np
import pytest

from experiments.damage import formats

PLACES = 10


def test_damaged_images_are_one_line_or_what_the_library_reads(tmp_path, capsys):
    wrong = formats.try_all(tmp_path, PLACES, seed=1)
    said = capsys.readouterr().out
    count = len(formats.encodings())
    assert f"{count * (PLACES + 1)} answers, 0 wrong" in said, said
    assert not wrong


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (
            lambda file, axes, window=None: np.zeros((9, 7, 3), np.uint8)[window or ()],
            "WRONG: other pixels",
        ),
        (lambda file, axes, window=None: {}[file], "WRONG: KeyError"),
    ],
)
def test_a_wrong_answer_is_told(tmp_path, capsys, monkeypatch, read, says):
    from unet_jax.data import files

    monkeypatch.setattr(files, "read_image", read)
    only = {"npz": formats.encodings()["npz"]}
    monkeypatch.setattr(formats, "encodings", lambda: only)
    wrong = formats.try_all(tmp_path, PLACES, seed=1)
    assert wrong == PLACES + 1
    assert says in capsys.readouterr().out
