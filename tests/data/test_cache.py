"""Images kept after decoding change no byte of any batch."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from unet_jax.compare import may_differ
from unet_jax.data import cache
from unet_jax.data.base import PairSource
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import Loading, make_loading, open_data
from unet_jax.errors import UserError

SIZES = ((31, 47), (9, 5), (64, 20), (33, 33), (1, 1), (12, 90), (16, 24))
FITS = ("resize", "crop")


def save(folder, index, seed, size):
    rng = np.random.default_rng((seed, index))
    arrays = {"images": rng.integers(0, 256, (*size, 3)), "masks": rng.choice([0, 1, 255], size)}
    for kind, array in arrays.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(folder / kind / f"n{index}.png")


@pytest.fixture
def data(tmp_path):
    for index, size in enumerate(SIZES):
        save(tmp_path / "data", index, 0, size)
    (tmp_path / "data" / "val.txt").write_text("n0\n")
    return tmp_path / "data"


def open_train(data):
    keys = {"class_names": ("a", "b"), "ignore_values": (255,)}
    return open_data(source="folder", path=str(data), folder=keys)[0].splits["train"]


def loading_of(fit, workers=2, **given):
    return Loading((16, 24), fit, workers, foreground=0.5 * (fit == "crop"), **given)


def batches(source, loading, rows=None):
    order = {"batch_size": 4, "seed": 1, "start": 0, "stop": 6, "rows": rows}  # four epochs
    return [
        {name: array.tobytes() for name, array in batch.items()}
        for batch in train_batches(*cache.keep(source, loading), **order)
    ]


def images(source, loading):
    """Returns the bytes of all images and labels as a batch is made of them."""
    kept, _ = cache.keep(source, loading)
    samples = [kept.read(index) for index in range(len(kept))]
    return [(x.image.tobytes(), x.label.tobytes(), x.id, x.spacing) for x in samples]


@pytest.fixture
def decoded(monkeypatch):
    """Lists the images that are decoded."""
    read, found = PairSource.read, []

    def count(self, index, window=None):
        found.append(int(index))
        return read(self, index, window)

    monkeypatch.setattr(PairSource, "read", count)
    return found


@pytest.mark.parametrize("fit", FITS)
def test_batches_are_the_same_from_memory(data, decoded, fit, monkeypatch):
    source, plain = open_train(data), loading_of(fit)
    assert cache.keep(source, plain) == (source, plain)
    expected = batches(source, plain)
    decoded.clear()
    assert batches(source, loading_of(fit, workers=1, cache=1)) == expected
    assert sorted(decoded) == list(range(6))
    decoded.clear()
    assert batches(source, loading_of(fit, workers=4, cache=1)) == expected
    monkeypatch.setattr(cache, "MEBIBYTE", 2000)  # less than all of them
    decoded.clear()
    assert batches(source, loading_of(fit, workers=1, cache=2)) == expected
    assert 6 < len(decoded) < 24


def test_no_more_is_kept_than_is_allowed(data, monkeypatch):
    monkeypatch.setattr(cache, "MEBIBYTE", 1)
    for most in (0, 3, 4, 5000, 20000):
        kept = cache.Cached(open_train(data), loading_of("crop", cache=most))
        for index in (*range(6), *range(6)):
            kept.read(index)
        sizes = [4 * h * w for h, w in SIZES[1:]]
        held, left = [], most
        for index, size in enumerate(sizes):  # those that come first and still fit
            if size <= left:
                held, left = [*held, index], left - size
        assert sorted(kept._kept) == held


@pytest.mark.parametrize("fit", FITS)
def test_batches_are_the_same_from_a_file_between_runs(data, decoded, fit, tmp_path):
    expected = batches(open_train(data), loading_of(fit))
    with_file = loading_of(fit, cache=1, cache_dir=str(tmp_path / "new" / "cache"))
    decoded.clear()
    assert batches(open_train(data), with_file) == expected
    assert sorted(decoded) == [0, *range(6)]  # the first also for its kind
    [file] = (tmp_path / "new" / "cache").iterdir()
    decoded.clear()
    assert batches(open_train(data), with_file) == expected
    assert batches(open_train(data), with_file._replace(workers=1)) == expected
    assert not decoded
    other = with_file._replace(image_size=(8, 8))
    assert batches(open_train(data), other) == batches(open_train(data), other._replace(cache=0))
    assert len(list(file.parent.iterdir())) == (2 if fit == "resize" else 1)


def test_a_changed_file_is_never_served_stale(data, tmp_path):
    loading = loading_of("crop", cache=1, cache_dir=str(tmp_path / "cache"))
    before = batches(open_train(data), loading)
    save(data, 3, 1, SIZES[3])
    changed = batches(open_train(data), loading_of("crop"))
    assert changed != before
    assert batches(open_train(data), loading) == changed
    (data / "val.txt").write_text("n5\n")  # another split
    assert batches(open_train(data), loading) == batches(open_train(data), loading_of("crop"))


def test_a_damaged_file_is_told_and_made_anew(data, tmp_path, capsys):
    loading = loading_of("crop", cache=1, cache_dir=str(tmp_path / "cache"))
    expected = images(open_train(data), loading)
    [file] = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    capsys.readouterr()
    places = [0, 700, len(whole) // 2, len(whole) - 200, len(whole) - 70, len(whole) - 1]
    damaged = [whole[:p] + bytes([whole[p] ^ 1]) + whole[p + 1 :] for p in places]
    for data_now in (*damaged, whole[:-1], whole[:100], b"", b"another file", whole + whole[:10]):
        file.write_bytes(data_now)
        assert images(open_train(data), loading) == expected
        assert f"{file} is damaged, or no cache of these images" in capsys.readouterr().out
        assert file.read_bytes() == whole
    other = file.with_name("other.images")
    (data / "val.txt").write_text("n5\n")
    images(open_train(data), loading)
    [other] = set(file.parent.iterdir()) - {file}
    file.write_bytes(whole)
    other.write_bytes(whole)  # of images that are not these
    assert images(open_train(data), loading) == images(open_train(data), loading_of("crop"))


@pytest.mark.parametrize("fit", FITS)
def test_two_processes_read_what_one_reads(data, fit, tmp_path):
    """Each its own rows of every batch; the second finds the file that the first made."""
    in_memory = loading_of(fit, cache=1)
    in_file = in_memory._replace(cache_dir=str(tmp_path / "cache"))
    expected = batches(open_train(data), loading_of(fit))
    for loading in (in_memory, in_file):
        parts = [batches(open_train(data), loading, rows) for rows in ([0, 1], [2, 3])]
        for whole, *both in zip(expected, *parts, strict=True):
            assert {name: b"".join(part[name] for part in both) for name in whole} == whole


def test_two_that_make_the_file_at_once(data, tmp_path):
    loading = loading_of("crop", cache=1, cache_dir=str(tmp_path / "cache"))
    expected = images(open_train(data), loading_of("crop"))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: images(open_train(data), loading), range(4)))
    assert found == [expected] * 4
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_file_that_would_be_too_large_or_cannot_be_written(data, tmp_path, capsys, monkeypatch):
    loading = loading_of("crop", cache=1, cache_dir=str(tmp_path / "cache"))
    expected = batches(open_train(data), loading_of("crop"))
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match=r"^config\.data\.cache_dir='.*cache' cannot be made: "):
        batches(open_train(data), loading)
    os.unlink(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert batches(open_train(data), loading) == expected
    assert "cannot be written (No space left); training goes on" in capsys.readouterr().out
    assert not list((tmp_path / "cache").iterdir())
    monkeypatch.setattr(cache, "MEBIBYTE", 2000)
    assert batches(open_train(data), loading) == expected
    assert "config.data.cache=1 MiB is less than the " in capsys.readouterr().out
    assert not list((tmp_path / "cache").iterdir())


def test_keys():
    assert may_differ("data.cache")
    assert may_differ("data.cache_dir")
    with pytest.raises(UserError, match=r"^config\.data\.cache_dir='x' needs config\.data\.cache"):
        make_loading(cache_dir="x")


@pytest.mark.parametrize("fit", FITS)
def test_values_are_normalised_once(data, tmp_path, fit):
    section = {"kind": "z_score", "of": "image"}
    loading = make_loading((16, 24), fit, workers=2, normalise=section)
    expected = batches(open_train(data), loading)
    kept = loading._replace(cache=1)
    assert batches(open_train(data), kept) == expected
    in_file = kept._replace(cache_dir=str(tmp_path / "cache"))
    assert batches(open_train(data), in_file) == expected
    assert batches(open_train(data), in_file) == expected
    assert expected != batches(open_train(data), loading_of(fit, cache=1))
    other = make_loading((16, 24), fit, workers=2, normalise={"kind": "min_max", "of": "image"})
    own = other._replace(cache=1, cache_dir=in_file.cache_dir)
    assert batches(open_train(data), own) == batches(open_train(data), other)
