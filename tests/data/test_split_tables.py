"""Splits by the columns of a table."""

import unicodedata

import pytest
from support.split_folders import ids, opened, save

from unet_jax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("encoding", "comma", "form"),
    [("utf-8", ",", "NFD"), ("utf-8-sig", ";", "NFC"), ("utf-16", "\t", "NFD")],
)
def test_a_table_of_patients(tmp_path, encoding, comma, form):
    names = ["Jürgen 1", "Jürgen 2", "b/x,y" if comma == "," else "b/x y", "c", "d", "e"]
    root = save(tmp_path, names)
    quoted = [f'"{name}"' if comma in name else name for name in names]
    rows = [
        f"{comma} patient {comma}file",
        *(f"7{comma}Ü{i // 2}{comma}{name}" for i, name in enumerate(quoted)),
        f"7{comma}Ü2{comma} d.png ",  # the same again
        f"7{comma}q{comma}nobody.png",
        comma * 2,
    ]
    text = unicodedata.normalize(form, "\r\n".join(rows))
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    split = {"group_column": "patient", "table": "table.csv", "name_column": "file"}
    val = []
    for fold in range(3):
        found = ids(opened(root, split, fold=fold, folds=3))
        assert len({names.index(name) // 2 for name in found["val"]}) == 1
        val += found["val"]
    assert sorted(val) == sorted(names)


HEAD = "name,patient,site\n"


LINES = "a,p0,x\nb,p1,x\nc,p1,y\nd,p2,y\n"


TABLES = {
    "no column": ("name,person\na,p\n", "has no column 'patient'; .* columns name, person. Change"),
    "twice": ("name,patient,patient\na,p,p\n", "has the column 'patient' 2 times"),
    "nothing": ("", "has no column 'patient'"),
    "a row less": (HEAD + LINES[:-7], r"has no row for 1 of the 4 images, the first is 'd'"),
    "two values": (HEAD + LINES + "a,p9,x\n", "for 'a', 'p0' in line 2 and 'p9' in line 6"),
    "an empty value": (HEAD + LINES.replace("p2", " "), "line 5 has no patient for 'd'"),
    "few values": (HEAD + LINES + "e,p\n", "line 6 has 2 values and the table 3 columns"),
    "a quote": (HEAD + 'a,"p0,x\n', r"line 2 is no line of a table: "),
    "no text": (b"\xff\x00\xfe\xd8", "cannot be read as a table"),
}


@pytest.mark.parametrize("what", TABLES)
def test_tables_that_do_not_fit(tmp_path, what):
    root = save(tmp_path, "abcd")
    content, says = TABLES[what]
    file = tmp_path / "t.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"^{file}.*{says}"):
        opened(root, {"group_column": "patient", "table": "t.csv"})


def test_a_table_that_is_not_there_and_a_name_of_two_images(tmp_path):
    root = save(tmp_path, ["a", "a.png", "b"])
    split = {"group_column": "patient", "table": "t.csv"}
    with pytest.raises(UserError, match=rf"{tmp_path}/t\.csv"):
        opened(root, split)
    (tmp_path / "t.csv").write_text("name,patient\na.png,p\n")
    with pytest.raises(UserError, match=r"line 2 names 'a\.png', and there are two such images"):
        opened(root, split)


def test_only_images_of_a_split_need_a_row(tmp_path):
    root = save(tmp_path, "abcdef")
    (tmp_path / "train.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "t.csv").write_text(HEAD + LINES)
    found = ids(opened(root, {"group_column": "patient", "table": "t.csv"}, val_fraction=0.5))
    assert {"b", "c"} <= {*found["val"]} or {"b", "c"} <= {*found["train"]}
    assert sorted(found["val"] + found["train"]) == [*"abcd"]


@pytest.mark.parametrize("folds", [0, 4])
def test_strata_of_a_column_have_their_share(tmp_path, folds):
    names = [f"n{i:02}" for i in range(53)]
    site = {name: "xyz"[min(i % 7, 2)] for i, name in enumerate(names)}
    root = save(tmp_path, names)
    rows = "".join(f"{name};{site[name]}\n" for name in names)
    (tmp_path / "t.csv").write_text(f"name;site\n{rows}")
    split = {"stratify_column": "site", "table": "t.csv"}
    for fold in range(folds or 1):
        dataset = opened(root, split, val_fraction=0.25, fold=fold, folds=folds)
        assert ", strata by site, seed 0" in dataset.split_by
        for kind in "xyz":
            wanted = sum(own == kind for own in site.values()) / 4
            found = sum(site[name] == kind for name in ids(dataset)["val"])
            assert abs(found - wanted) < 1
