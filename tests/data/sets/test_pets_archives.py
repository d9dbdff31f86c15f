import tarfile
from pathlib import Path

import pytest
from support.pets_set import SPLITS, nothing_prepared, one_line, originals, pack, prepare

from unet_jax.data.sets import pets_archives, tfds_pets
from unet_jax.data.sets.tfds_pets import open_pets
from unet_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.parametrize(
    ("member", "archive"),
    [
        ("images/pug_7.jpg", "images.tar.gz"),
        ("images/Bengal_1.jpg", "images.tar.gz"),
        ("annotations/trimaps/pug_7.png", "annotations.tar.gz"),
        ("annotations/xmls/Abyssinian_100.xml", "annotations.tar.gz"),
    ],
)
def test_truncated_file_is_named(tmp_path: Path, member: str, archive: str) -> None:
    data = originals()[member]
    with pytest.raises(UserError) as error:
        prepare(tmp_path, **{member: data[: len(data) * 7 // 8]})  # its header is whole
    assert f"{member} in {archive} cannot be read" in one_line(error)
    assert nothing_prepared(tmp_path)


def test_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images/pug_7\.jpg in .* \(no image\)"):
        prepare(tmp_path, **{"images/pug_7.jpg": b"<html>not found</html>"})


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("images/pug_7.jpg", r"images.tar.gz has no images/pug_7.jpg, which .*trainval.txt"),
        ("images/Bengal_1.jpg", r"images.tar.gz has no images/Bengal_1.jpg, which .*test.txt"),
        ("annotations/trimaps/pug_7.png", r"annotations.tar.gz has no .*trimaps/pug_7.png"),
        ("annotations/test.txt", r"annotations.tar.gz has no annotations/test.txt"),
    ],
)
def test_missing_member_is_named(tmp_path: Path, member: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        prepare(tmp_path, **{member: None})
    one_line(error)
    assert nothing_prepared(tmp_path)


@pytest.mark.parametrize("line", ["pug_7 5 2", "pug_7 pug 2 1", "pug_7 38 2 1", "\ufffd"])
def test_malformed_list_is_named(tmp_path: Path, line: str) -> None:
    text = f"pug_7 5 2 1\n\n{line}\n"
    with pytest.raises(UserError, match=r"annotations/trainval.txt") as error:
        prepare(
            tmp_path,
            **{"annotations/trainval.txt": text.encode().replace("\ufffd".encode(), b"\xff")},
        )
    assert repr(line) in one_line(error)


@pytest.mark.parametrize("name", pets_archives.ARCHIVES)
def test_truncated_archive_is_named(tmp_path: Path, name: str) -> None:
    pack(tmp_path, originals())
    file = tmp_path / name
    with tarfile.open(file) as tar:
        cut = tar.getmembers()[0].offset_data + 100
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError, match=rf"{name} cannot be extracted") as error:
        open_pets(str(tmp_path), verify_checksums=False)
    one_line(error)
    assert nothing_prepared(tmp_path)


@pytest.mark.parametrize("tenth", range(1, 10))
def test_damaged_archive_is_named(tmp_path: Path, tenth: int) -> None:
    pack(tmp_path, originals())
    file = tmp_path / "images.tar.gz"
    data = bytearray(file.read_bytes())
    data[len(data) * tenth // 10] ^= 0x10
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"images\.tar\.gz cannot be extracted") as error:
        open_pets(str(tmp_path), verify_checksums=False)
    one_line(error)


def test_broken_compression_within_a_file_is_named(tmp_path: Path) -> None:
    text = " ".join(map(str, range(10**5))).encode()
    pack(tmp_path, {"images/large.jpg": text} | originals())
    file = tmp_path / "images.tar.gz"
    data = file.read_bytes()
    middle = len(data) // 2
    file.write_bytes(data[:middle] + b"\xff" * 200 + data[middle + 200 :])
    with pytest.raises(UserError, match=r"images\.tar\.gz cannot be extracted"):
        open_pets(str(tmp_path), verify_checksums=False)


def test_checksum_of_gzip_is_verified(tmp_path: Path) -> None:
    pack(tmp_path, originals() | {"images/large.jpg": bytes(10**6)})
    file = tmp_path / "images.tar.gz"
    data = file.read_bytes()
    file.write_bytes(data[:-8] + b"1234" + data[-4:])
    with pytest.raises(UserError, match=r"images\.tar\.gz cannot be extracted \(CRC"):
        open_pets(str(tmp_path), verify_checksums=False)


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\x1f\x8b\x08 damaged"])
def test_file_that_is_no_archive_is_named(tmp_path: Path, data: bytes) -> None:
    pack(tmp_path, originals())
    (tmp_path / "annotations.tar.gz").write_bytes(data)
    with pytest.raises(UserError, match=r"annotations\.tar\.gz cannot be extracted") as error:
        open_pets(str(tmp_path), verify_checksums=False)
    one_line(error)


def test_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images\.tar\.gz cannot be extracted"):
        prepare(tmp_path / "data", **{"images/../../../escaped": b"x"})
    assert not list(tmp_path.rglob("escaped"))


def test_leftovers_of_macos_are_not_extracted(tmp_path: Path) -> None:
    pack(tmp_path, originals())
    tfds_pets._extract(tmp_path / "images.tar.gz", tmp_path / "out")
    found = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert found == sorted(f"{n}.jpg" for names in SPLITS.values() for n in names)


@pytest.mark.parametrize("last", ["pug_7", "yorkshire_terrier_3"])
def test_interrupted_preparation_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    def interrupt(folder: Path, name: str) -> bytes:
        if name == last:
            raise KeyboardInterrupt
        return (folder / f"images/{name}.jpg").read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(pets_archives, "read_image", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path)
    assert nothing_prepared(tmp_path)
    assert len(open_pets(str(tmp_path), verify_checksums=False)["test"]) == len(SPLITS["test"])
