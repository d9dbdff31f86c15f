"""A split is kept over the two forms in which pets come."""

import tarfile

import pytest
from ml_collections import ConfigDict
from PIL import Image
from support import pets_set

from unet_jax.data.sources import open_data
from unet_jax.errors import UserError
from unet_jax.runs import splits


def test_records_and_files_of_pets_have_the_same_contents(tmp_path):
    pets_set.prepare(tmp_path / "tfds")
    given = {"source": "tfds", "path": str(tmp_path / "tfds"), "val_fraction": 0.25}
    dataset, _ = open_data(**given, tfds={"verify_checksums": False})
    kept = splits.take(dataset)
    assert {name: len(ids) for name, ids in kept.items()} == {"train": 3, "val": 1, "test": 3}
    for name in ("images", "annotations"):
        with tarfile.open(tmp_path / "tfds" / f"{name}.tar.gz") as tar:
            tar.extractall(tmp_path / "files", filter="data")
    section = ConfigDict(given | {"source": "pets", "path": str(tmp_path / "files")})
    (tmp_path / "files" / "annotations" / "trainval.txt").write_text("pug_7 1 1 1\n")
    opened, _ = splits.open_kept(section, kept, ("train", "val", "test"))
    for name, source in opened.splits.items():
        assert list(source.ids) == list(kept[name]) == list(dataset.splits[name].ids)
        assert source.read(0).id == source.ids[0]
    name = next(iter(kept["train"]))
    file = tmp_path / "files" / "annotations" / "trimaps" / f"{name}.png"
    Image.new("L", (80, 48), 1).save(file)
    with pytest.raises(UserError, match=rf"the train split .* 3 images 0 .* 1 have .* {file};"):
        splits.open_kept(section, kept, ("train",))


def test_the_images_that_tfds_encodes_anew_are_known():
    from unet_jax.data.sets.pets import ENCODED_ANEW
    from unet_jax.data.sets.pets_archives import stock

    assert set(stock._CORRUPT_SAMPLES) == ENCODED_ANEW
