import dataclasses
import functools
import http.server
import io
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from support.pets_set import (
    PREPARED,
    SPLITS,
    encode,
    make_image,
    nothing_prepared,
    one_line,
    originals,
    pack,
    prepare,
)
from tensorflow_datasets.core.download.checksums import UrlInfo, compute_url_info

from unet_jax.data.sets import pets_archives, tfds_pets
from unet_jax.data.sets.tfds_pets import open_pets
from unet_jax.errors import UserError

URL = tfds_pets.stock._BASE_URL
DOWNLOAD = tfds_pets._download
pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pets")
    prepare(folder)
    return folder


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """A prepared folder that a test may spoil."""
    shutil.copytree(prepared, tmp_path / "copy")
    return tmp_path / "copy"


def test_splits_hold_the_listed_images_under_their_names(prepared: Path) -> None:
    pets = open_pets(str(prepared))
    assert {split: sorted(records.names) for split, records in pets.items()} == {
        split: sorted(names) for split, names in SPLITS.items()
    }
    for records in pets.values():
        assert tuple(record["name"] for record in records) == records.names


def test_records_equal_the_original_files_byte_for_byte(prepared: Path) -> None:
    for records in open_pets(str(prepared)).values():
        for record in records:
            name = record["name"]
            assert record["mask"] == originals()[f"annotations/trimaps/{name}.png"]
            if name != "beagle_116":  # Egyptian_Mau_139 is on tfds' list, but a clean JPEG here
                assert record["image"] == originals()[f"images/{name}.jpg"], name


def test_rgba_png_named_jpg_becomes_a_jpeg_without_its_alpha(prepared: Path) -> None:
    records = open_pets(str(prepared))["trainval"]
    data = records[records.names.index("beagle_116")]["image"]
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    original = Image.open(io.BytesIO(originals()["images/beagle_116.jpg"]))
    difference = np.asarray(image, int) - np.asarray(original, int)[..., :3]
    assert abs(difference).mean() < 4


def test_any_image_that_is_no_jpeg_is_encoded_anew(tmp_path: Path) -> None:
    palette = make_image(1).quantize(16)
    transparent = io.BytesIO()  # a transparency for each colour, of which Pillow warns
    palette.save(transparent, "PNG", transparency=bytes(range(16)))
    pets = prepare(
        tmp_path,
        **{
            "images/pug_7.jpg": encode(make_image(1), "BMP"),
            "images/Bengal_1.jpg": encode(palette, "GIF"),
            "images/yorkshire_terrier_3.jpg": transparent.getvalue(),
            "images/Egyptian_Mau_139.jpg": encode(make_image(1).convert("L"), "JPEG"),
        },
    )
    images = {r["name"]: r["image"] for records in pets.values() for r in records}
    for name in ("pug_7", "Bengal_1", "yorkshire_terrier_3", "Egyptian_Mau_139"):
        image = Image.open(io.BytesIO(images[name]))
        assert (image.format, image.mode) == ("JPEG", "RGB"), name


def test_encoding_anew_keeps_how_an_image_lies(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = io.BytesIO()
    make_image(1).save(data, "PNG", exif=exif)
    records = prepare(tmp_path, **{"images/pug_7.jpg": data.getvalue()})["trainval"]
    image = Image.open(io.BytesIO(records[records.names.index("pug_7")]["image"]))
    assert (image.format, image.getexif()[274]) == ("JPEG", 6)


def test_listed_jpeg_is_encoded_anew_only_where_pillow_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 80 - 1)  # a warning for every image
    pets = prepare(tmp_path)
    images = {r["name"]: r["image"] for records in pets.values() for r in records}
    changed = {name for name, data in images.items() if data != originals()[f"images/{name}.jpg"]}
    assert changed == {"beagle_116", "Egyptian_Mau_139"}


def test_order_is_the_same_in_every_preparation(prepared: Path, tmp_path: Path) -> None:
    pets, again = open_pets(str(prepared)), prepare(tmp_path)
    assert {s: r.names for s, r in pets.items()} == {s: r.names for s, r in again.items()}


def test_index_out_of_range(prepared: Path) -> None:
    records = open_pets(str(prepared))["test"]
    assert records[-1]["name"] == records.names[-1]
    with pytest.raises(IndexError):
        records[len(records)]


def test_repr_is_stable(prepared: Path) -> None:
    first, second = (repr(open_pets(str(prepared))["test"]) for _ in range(2))
    assert first == second


def test_plain_tfds_reads_the_prepared_set(prepared: Path) -> None:
    builder = tfds.builder("oxford_iiit_pet", data_dir=str(prepared))
    assert type(builder) is tfds_pets.stock.Builder  # ours has not taken its name
    assert str(builder.version) == "4.0.0"
    assert "description" in json.loads((prepared / PREPARED / "dataset_info.json").read_text())
    assert builder.info.splits["train"].num_examples == len(SPLITS["trainval"])
    assert builder.info.splits["test"].num_examples == len(SPLITS["test"])
    examples = {e["file_name"].decode(): e for e in builder.as_data_source("train")}
    assert sorted(examples) == sorted(f"{name}.jpg" for name in SPLITS["trainval"])
    example = examples["Abyssinian_100.jpg"]
    assert example["image"].shape == (48, 80, 3)
    assert example["segmentation_mask"].shape == (48, 80, 1)
    assert (example["label"], example["species"]) == (4, 1)  # counted from 0
    np.testing.assert_allclose(example["head_bbox"], (0.25, 0.25, 0.75, 0.5))
    np.testing.assert_array_equal(examples["pug_7.jpg"]["head_bbox"], 0)  # it has no xml file


def test_reopens_without_archives_network_or_reading_all_records(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("images.tar.gz", "annotations.tar.gz"):
        (copy / name).unlink()
    reads = []
    stem = tfds_pets._stem
    monkeypatch.setattr(tfds_pets, "_stem", lambda record: reads.append(1) or stem(record))
    pets = open_pets(str(copy))
    assert sorted(pets["trainval"].names) == sorted(SPLITS["trainval"])
    assert len(reads) == 4  # the first and the last of both splits


@pytest.mark.parametrize("damage", [None, "[", '["pug_7"]', "[1, 2, 3, 4]", "3"])
def test_names_are_read_again_where_their_file_is_gone_or_wrong(
    copy: Path, damage: str | None
) -> None:
    file = copy / PREPARED / "unet_jax_names_trainval.json"
    good = json.loads(file.read_text())
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    assert list(open_pets(str(copy))["trainval"].names) == good
    assert json.loads(file.read_text()) == good


def test_names_of_a_read_only_folder(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (copy / PREPARED).glob("unet_jax_names_*"):
        file.unlink()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert sorted(open_pets(str(copy))["test"].names) == sorted(SPLITS["test"])


def test_empty_path_is_the_default_folder_of_tfds(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(prepared))
    assert len(open_pets("")["test"]) == len(SPLITS["test"])


def test_relative_path_and_home_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("data", "~/data"):
        with pytest.raises(UserError) as error:
            open_pets(path)
        assert f"not prepared in {tmp_path / 'data'} and" in one_line(error)


def test_archives_in_the_manual_folder_of_tfds(tmp_path: Path) -> None:
    pack(tmp_path / "downloads" / "manual", originals())
    pets = open_pets(str(tmp_path), verify_checksums=False)
    assert len(pets["trainval"]) == len(SPLITS["trainval"])


def test_preparation_draws_no_bars_into_a_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tfds.enable_progress_bar()
    prepare(tmp_path)
    assert "\r" not in capfd.readouterr().err


def test_preparation_leaves_no_extracted_files(prepared: Path) -> None:
    assert not list(prepared.glob("*extract*"))
    assert not list(prepared.rglob("*.jpg"))


@pytest.mark.parametrize("same_size", [True, False])
def test_wrong_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_size: bool) -> None:
    pack(tmp_path, originals())
    file = tmp_path / "images.tar.gz"
    info = compute_url_info(file)
    url = f"{URL}/images.tar.gz"
    size = int(info.size) + (not same_size)
    wrong = UrlInfo(size=tfds.core.utils.Size(size), checksum="0" * 64, filename=None)
    infos = tfds_pets._Builder.url_infos | {url: wrong}
    monkeypatch.setattr(tfds_pets._Builder, "url_infos", infos)
    with pytest.raises(UserError) as error:
        open_pets(str(tmp_path))
    message = one_line(error)
    expected = (
        ("0" * 64, info.checksum) if same_size else (f"{size} bytes", f"{int(info.size)} bytes")
    )
    for part in (str(file), *expected, url, "--config.data.tfds.verify_checksums=False"):
        assert part in message
    assert nothing_prepared(tmp_path)


def test_right_checksums_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path, originals())
    infos = {f"{URL}/{n}": compute_url_info(tmp_path / n) for n in pets_archives.ARCHIVES}
    monkeypatch.setattr(tfds_pets._Builder, "url_infos", infos)
    assert len(open_pets(str(tmp_path))["test"]) == len(SPLITS["test"])


def test_recorded_checksums_are_those_of_the_official_archives() -> None:
    assert {url: int(info.size) for url, info in tfds_pets._Builder.url_infos.items()} == {
        f"{URL}/images.tar.gz": 791918971,
        f"{URL}/annotations.tar.gz": 19173078,
    }


def test_without_archives_and_network_fails_at_once(
    tmp_path: Path, no_network: list[tuple[str, int]]
) -> None:
    with pytest.raises(UserError) as error:
        open_pets(str(tmp_path))
    message = one_line(error)
    for part in (
        f"{URL}/images.tar.gz",
        f"{URL}/annotations.tar.gz",
        "put images.tar.gz and annotations.tar.gz into",
        str(tmp_path / "downloads" / "manual"),
    ):
        assert part in message
    assert no_network == [("thor.robots.ox.ac.uk", 443)]
    assert not list(tmp_path.iterdir())


def test_with_one_archive_asks_for_the_other(tmp_path: Path) -> None:
    pack(tmp_path, originals())
    (tmp_path / "images.tar.gz").unlink()
    with pytest.raises(UserError, match=r"put images\.tar\.gz into") as error:
        open_pets(str(tmp_path), verify_checksums=False)
    assert "annotations.tar.gz" not in one_line(error)


def test_probes_the_proxy_where_one_is_set(
    tmp_path: Path, no_network: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    with pytest.raises(UserError, match=r"proxy\.example cannot be reached"):
        open_pets(str(tmp_path))
    assert no_network == [("proxy.example", 3128)]


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list
) -> Iterator[pytest.MonkeyPatch]:
    """Serves the archives from this machine; undoing what it yields ends the network again."""
    del no_network
    folder = tmp_path / "served"
    pack(folder, originals())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{httpd.server_port}"
        infos = {
            f"{url}/{name}": compute_url_info(folder / name) for name in pets_archives.ARCHIVES
        }
        monkeypatch.setattr(tfds_pets.stock, "_BASE_URL", url)
        monkeypatch.setattr(tfds_pets._Builder, "url_infos", infos)
        with monkeypatch.context() as patch:
            patch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
            patch.setattr(tfds_pets, "_download", DOWNLOAD)
            yield patch
        httpd.shutdown()
        thread.join()


def test_downloads_what_is_missing_once(server: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert len(open_pets(str(data))["test"]) == len(SPLITS["test"])
    shutil.rmtree(data / "oxford_iiit_pet")
    server.undo()
    assert len(open_pets(str(data))["test"]) == len(SPLITS["test"])  # from tfds' downloads


@pytest.mark.usefixtures("server")
def test_download_of_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    infos = {
        url: dataclasses.replace(info, checksum="0" * 64)
        for url, info in tfds_pets._Builder.url_infos.items()
    }
    monkeypatch.setattr(tfds_pets._Builder, "url_infos", infos)
    with pytest.raises(UserError, match=r"the download failed.*wrong checksum") as error:
        open_pets(str(tmp_path / "data"))
    assert "images.tar.gz and annotations.tar.gz" in one_line(error)
    assert nothing_prepared(tmp_path / "data")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    pack(tmp_path, originals())
    (tmp_path / "oxford_iiit_pet").write_text("a file in place of the folder")
    with pytest.raises(UserError, match=r"cannot prepare .*oxford_iiit_pet/4\.0\.0") as error:
        open_pets(str(tmp_path), verify_checksums=False)
    one_line(error)
    assert not list(tmp_path.glob("unet_jax_extract_*"))


def test_set_prepared_as_tfrecord(copy: Path) -> None:
    file = copy / PREPARED / "dataset_info.json"
    file.write_text(file.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="prepared as tfrecord, but only array_record") as error:
        open_pets(str(copy))
    assert str(copy / PREPARED) in one_line(error)


def test_folder_without_a_prepared_set(copy: Path) -> None:
    (copy / PREPARED / "dataset_info.json").unlink()
    with pytest.raises(UserError, match="holds no prepared data set") as error:
        open_pets(str(copy), verify_checksums=False)
    assert str(copy / PREPARED) in one_line(error)


def test_lost_record_file_is_named(copy: Path) -> None:
    (file,) = (copy / PREPARED).glob("*test.array_record*")
    file.unlink()
    with pytest.raises(UserError, match="is missing") as error:
        open_pets(str(copy))
    assert str(file) in one_line(error)
