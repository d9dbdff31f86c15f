"""Prediction of images that go in tiles: what is written, from what, and what a kill leaves."""

import os

import numpy as np
import pytest
import tensorstore
import tifffile
from PIL import Image
from support.predicting import CONFIG, begin_run, draw, tree
from support.tiled import Plain

from unet_jax.data.files import read_header, read_image
from unet_jax.data.formats import find_format
from unet_jax.errors import MissingResultsError, UserError
from unet_jax.predict import large, opened, store, work
from unet_jax.predict.run import predict_run
from unet_jax.restore import restore

SIZE = (150, 131)


def config_of(**tiles):
    config = CONFIG.copy_and_resolve_references()
    config.data.fit = "crop"
    config.model.features, config.mesh.data = (4, 8), 1
    config.eval.tiles.update({"whole": 1000, "size": (40,)} | tiles)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return begin_run(tmp_path_factory.mktemp("large") / "run", config_of())


def predict(run, inputs, output, *, config=None, **flags):
    inputs = [str(path) for path in inputs]
    config = config or config_of()
    predict_run(config, run, inputs=inputs, output=str(output), checkpoint="latest", **flags)


def make_image(size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def write(folder, image):
    """Writes an image in every format that is read in windows, and in one that is not."""
    folder.mkdir()
    Image.fromarray(image).save(folder / "png.png")
    np.save(folder / "npy.npy", image)
    tifffile.imwrite(folder / "tiles.tif", image, tile=(32, 48), photometric="rgb")
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder / 'zarr.zarr'}/"}}
    array = tensorstore.open(
        spec, create=True, dtype=tensorstore.uint8, shape=image.shape, chunk_layout=None
    )
    array.result().write(image).result()
    return folder


def truth(run, image):
    trained = restore(config_of(), run, "latest")
    plain = Plain(trained.network.model, trained.variables)
    return plain(image, (1, 1)).argmax(-1).astype(np.uint8)


def read_mask(file):
    if file.suffix == ".zarr":
        return read_image(file, 2)[..., 0]
    form = find_format(file.name)
    with file.open("rb") as stream:
        return form.read_mask(stream, str(file)).ids


def test_every_format_gives_the_labels_of_the_plain_network(run, tmp_path, capsys):
    image = make_image()
    expected = truth(run, image)
    photos = write(tmp_path / "photos", image)
    draw(photos / "small.png")
    predict(run, [photos], tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "4 images of more than 1,000 pixels: " in said
    assert " tiles of 40x40 with a halo of 8, which make up the whole result" in said
    names = ("png.png", "npy.npy", "tiles.png", "zarr.png")
    for name in names:
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / name), expected)
        with Image.open(tmp_path / "out" / f"{name.partition('.')[0]}_overlay.png") as shown:
            assert shown.size == SIZE[::-1]
    assert (tmp_path / "out" / "small.png").exists()
    left = {path.name for path in (tmp_path / "out").iterdir()}
    overlays = {f"{name.partition('.')[0]}_overlay.png" for name in (*names, "small.png")}
    assert left == {*names, "small.png", *overlays}  # no store, no half of a file


def test_what_streams_no_large_image_has_the_same_masks(run, tmp_path):
    image = make_image()
    np.save(tmp_path / "a.npy", image)
    outputs = {
        "alone": {"outputs": ["mask"]},
        "whole": {"outputs": ["mask", "probability", "coco"]},
        "turned": {"outputs": ["mask", "disagreement"], "tta": True},
    }
    for name, given in outputs.items():
        predict(run, [tmp_path / "a.npy"], tmp_path / name, **given)
    for name in ("alone", "whole"):
        assert np.array_equal(np.load(tmp_path / name / "a.npy"), truth(run, image))
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {"a.npy"}
    probability = np.load(tmp_path / "whole" / "a_probability.npy")
    assert np.array_equal(probability.argmax(-1), truth(run, image))
    trained = restore(config_of(), run, "latest")
    plain = Plain(trained.network.model, trained.variables)
    turned = [plain(image, (1, 1)), plain(image[:, ::-1].copy(), (1, 1))[:, ::-1]]
    mean = np.mean([np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in turned], axis=0)
    top = np.sort(mean)[..., -2:]
    clear = top[..., 1] - top[..., 0] > 1e-5  # else a tie but for rounding
    assert np.array_equal(np.load(tmp_path / "turned" / "a.npy")[clear], mean.argmax(-1)[clear])
    assert np.load(tmp_path / "turned" / "a_disagreement.npy").max() > 0


@pytest.mark.parametrize("suffix", work.MASKS[2])
def test_masks_of_every_format(run, tmp_path, suffix):
    image = make_image()
    np.save(tmp_path / "a.npy", image)
    predict(run, [tmp_path / "a.npy"], tmp_path / "out", mask_suffix=suffix)
    file = tmp_path / "out" / f"a{suffix}"
    np.testing.assert_array_equal(read_mask(file), truth(run, image))
    if suffix == ".tif":
        with tifffile.TiffFile(file) as tiff:
            assert tiff.is_bigtiff
            assert tiff.pages[0].is_tiled
    if suffix == ".png":
        with Image.open(file) as shown:
            assert shown.mode == "P"
    if suffix == ".zarr":
        assert read_header(file).shape == SIZE


def test_what_is_asked_for_is_no_suffix_of_masks(run, tmp_path):
    draw(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"--mask_suffix='.jpg' is none that masks of 2 axes"):
        predict(run, [tmp_path / "a.png"], tmp_path / "out", mask_suffix=".jpg")
    assert not (tmp_path / "out").exists()


class KilledError(BaseException):
    """As if the process had ended there."""


def kill_at(monkeypatch, count):
    """Ends the process, so to speak, at a write of a store: before it, or in the middle of it."""
    left, half = [count], count % 2

    def killing(write):
        def wrapped(file, data, *place):
            left[0] -= 1
            if left[0] == 0:
                if half:
                    write(file, bytes(data)[: max(1, len(data) // 2)], *place)
                raise KilledError
            return write(file, data, *place)

        return wrapped

    monkeypatch.setattr(store.os, "pwrite", killing(store.os.pwrite))
    monkeypatch.setattr(store.os, "write", killing(store.os.write))


def test_a_killed_prediction_goes_on_to_the_same_bytes(run, tmp_path):
    image = make_image()
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 48), photometric="rgb")
    predict(run, [tmp_path / "a.tif"], tmp_path / "whole")
    whole, out = tree(tmp_path / "whole"), tmp_path / "out"
    # At a row of the small image, of the mask, and at a line of the journal.
    for count in (1, 400, 41, 62, 250):
        with pytest.MonkeyPatch.context() as patched:
            kill_at(patched, count)
            with pytest.raises(KilledError):
                predict(run, [tmp_path / "a.tif"], out)
        assert not list(out.glob("*.png"))  # nothing looks whole
    predict(run, [tmp_path / "a.tif"], out)
    found = {path.relative_to(out): entry for path, entry in tree(out).items()}
    assert found == {path.relative_to(tmp_path / "whole"): entry for path, entry in whole.items()}


def test_parts_that_are_there_are_not_computed_again(run, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", make_image())
    put, parts = store.Store.put, []

    def putting(self, number, *given):
        if len(parts) == 5:
            raise KilledError
        parts.append(number)
        put(self, number, *given)

    monkeypatch.setattr(store.Store, "put", putting)
    with pytest.raises(KilledError):
        predict(run, [tmp_path / "a.npy"], tmp_path / "out")
    first = list(parts)
    monkeypatch.setattr(store.Store, "put", lambda *given: (parts.append(given[1]), put(*given)))
    predict(run, [tmp_path / "a.npy"], tmp_path / "out")
    assert sorted(parts) == list(range(len(parts)))
    assert len(first) == 5
    # Of another image of that name nothing is taken over.
    parts.clear()
    np.save(tmp_path / "a.npy", make_image(seed=1))
    predict(run, [tmp_path / "a.npy"], tmp_path / "out", replace=True)
    assert 0 in parts


def test_a_kill_while_results_are_written_and_after_it(run, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", make_image())

    def kill(*_):
        raise KilledError

    for module, name in ((large.figures, "save_png"), (large, "remove_store")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, kill)
            with pytest.raises(KilledError):
                predict(run, [tmp_path / "a.npy"], tmp_path / "out")
    # All is there; a result that somebody took away comes again.
    (tmp_path / "out" / "a.npy").unlink()
    predict(run, [tmp_path / "a.npy"], tmp_path / "out")
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.npy"), truth(run, make_image()))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.npy", "a_overlay.png"}
    with pytest.raises(UserError, match="replace them with --replace"):
        predict(run, [tmp_path / "a.npy"], tmp_path / "out")


def test_results_of_another_image_are_not_taken_for_begun(run, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", make_image())
    with monkeypatch.context() as patched:
        patched.setattr(large, "remove_store", lambda folder: None)
        predict(run, [tmp_path / "a.npy"], tmp_path / "out")
    before = tree(tmp_path / "out")
    np.save(tmp_path / "a.npy", make_image(seed=1))
    with pytest.raises(UserError, match="another model, image or tile made it; replace it with"):
        predict(run, [tmp_path / "a.npy"], tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_a_tile_that_cannot_be_read_is_named_and_the_rest_is_kept(
    run, tmp_path, capsys, monkeypatch
):
    image, file = make_image(), tmp_path / "a.tif"
    tifffile.imwrite(file, image, tile=(32, 48), photometric="rgb", compression="zlib")
    sound = file.read_bytes()
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        start, count = page.dataoffsets[-1], page.databytecounts[-1]
    file.write_bytes(sound[:start] + bytes(count) + sound[start + count :])
    with pytest.raises(MissingResultsError, match="1 of 1 images could not be read"):
        predict(run, [file], tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    # The last tile of the file, of pixels 128 and 96 on, is in two reads of 56 pixels a side.
    assert f"{file}: the tile of pixels 88 to 127, 88 to 130 cannot be read: {file} cannot" in said
    assert "(2 of its 12 parts; all others are kept)" in said
    assert not list((tmp_path / "out").glob("*.png"))
    # As where a network failed for a moment: the file is what it was.
    then = file.stat().st_mtime_ns
    file.write_bytes(sound)
    os.utime(file, ns=(then, then))
    put, parts = store.Store.put, []
    monkeypatch.setattr(store.Store, "put", lambda *given: (parts.append(given[1]), put(*given)))
    predict(run, [file], tmp_path / "out")
    assert len(parts) == 2
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.png"), truth(run, image))


def test_no_space_is_said_before_anything_is_written(run, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", make_image())
    found = work.os.statvfs(tmp_path)
    small = type("Found", (), {"f_bavail": 1, "f_frsize": 4096, "f_bsize": found.f_bsize})
    monkeypatch.setattr(work.os, "statvfs", lambda path: small)
    with pytest.raises(UserError, match=r"has 4.0 KiB free, and the masks of 1 large images may"):
        predict(run, [tmp_path / "a.npy"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_decoding_whole_is_checked_first(run, tmp_path, monkeypatch, capsys):
    Image.fromarray(make_image()).save(tmp_path / "a.png")
    monkeypatch.setattr(opened, "host_memory", lambda: 100_000)
    with pytest.raises(MissingResultsError):
        predict(run, [tmp_path / "a.png"], tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "(150x131 pixels) is of a format that is decoded whole, which takes" in said
    assert "convert it to a tiled TIFF file or OME-Zarr." in said


def test_black_and_white_of_an_image_are_those_of_all_of_it(run, tmp_path):
    config = config_of()
    config.data.normalise.update({"kind": "z_score", "of": "image"})
    own = begin_run(tmp_path / "run", config)
    rows = np.linspace(10, 200, SIZE[0])[:, None, None]
    image = np.random.default_rng(0).normal(rows, 20, (*SIZE, 3)).clip(0, 255).astype(np.uint8)
    np.save(tmp_path / "a.npy", image)
    predict(own, [tmp_path / "a.npy"], tmp_path / "out", config=config)
    mean, deviation = image.mean((0, 1)), image.std((0, 1))
    trained = restore(config, own, "latest")
    plain = Plain(trained.network.model, trained.variables)
    # Black -2 and white 2 are two deviations from the mean: `Plain` takes 0 and 255 for them.
    scaled = (image - mean + 2 * deviation) / (4 * deviation) * 255
    expected = plain(scaled, (1, 1)).argmax(-1)
    assert (read_mask(tmp_path / "out" / "a.npy") == expected).mean() > 0.9999
