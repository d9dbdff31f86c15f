"""Rules of post-processing that val chose, found in the counts that its evaluation left."""

import numpy as np
import pytest

from unet_jax.errors import BrokenFileError, UserError
from unet_jax.metrics.cleaned import Cleaning, choose_rules
from unet_jax.metrics.cleaning import RULES
from unet_jax.runs.cleaned import describe, find_rules, settle_rules

NAMES = ("background", "disk")
FILLED, NONE = "filled", "as_it_is"


def write(workdir, name, gain):
    """Writes counts of twelve images in which filling holes makes so many pixels, and 1, right."""
    hit = np.full((12, 2, len(RULES)), 50) + np.arange(12)[:, None, None]
    hit[..., [*RULES].index(FILLED)] += gain + (np.arange(12) % 3)[:, None]
    counts = {"true": np.full((12, 2), 90), "hit": hit, "guessed": hit + 3}
    counts |= {"cleaned_hit": hit[..., 0], "cleaned_guessed": hit[..., 0] + 3}
    assert counts.keys() == Cleaning.axes.keys()
    (workdir / "evaluations").mkdir(exist_ok=True)
    arrays = {f"cleaning/{key}": value for key, value in counts.items()}
    ids = np.array([f"{i}" for i in range(12)])
    np.savez(workdir / "evaluations" / f"{name}.npz", id=ids, **arrays)
    return counts


def test_rules_are_those_of_the_weights_of_a_step(tmp_path):
    assert find_rules(tmp_path, 7, NAMES) is None
    counts = write(tmp_path, "val_00000007", 10)
    write(tmp_path, "val_latest_00000008", -10)
    write(tmp_path, "test_00000009", 10)
    found = find_rules(tmp_path, 7, NAMES)
    assert found == choose_rules(counts, NAMES)
    assert {k: one.rule for k, one in found.items()} == {1: FILLED}
    assert find_rules(tmp_path, 8, NAMES)[1].rule == NONE
    assert find_rules(tmp_path, 9, NAMES) is None
    asked = {"cleaning": {"rules": ()}}
    assert settle_rules(asked, tmp_path, 7, "best", NAMES) == (NONE, FILLED)
    assert settle_rules({}, tmp_path, 7, "best", NAMES) == ()
    given = {"cleaning": {"rules": ("largest", NONE)}}
    assert settle_rules(given, tmp_path, 9, "best", NAMES) == ("largest", NONE)
    says = r"at step 9: first run --mode=eval --split=val --checkpoint=best "
    with pytest.raises(UserError, match=says):
        settle_rules(asked, tmp_path, 9, "best", NAMES)
    with pytest.raises(UserError, match="one rule for each of 2 classes"):
        settle_rules({"cleaning": {"rules": ("none", NONE)}}, tmp_path, 7, "best", NAMES)
    (tmp_path / "evaluations" / "val_00000007.npz").write_bytes(b"half")
    with pytest.raises(BrokenFileError, match=r"val_00000007\.npz is broken"):
        find_rules(tmp_path, 7, NAMES)


def test_what_cleaning_did_is_said_in_counts(tmp_path):
    counts = write(tmp_path, "val_00000007", 10)
    counts["cleaned_hit"], counts["cleaned_guessed"] = counts["hit"][..., 1], counts["hit"][..., 1]
    given = {f"cleaning/{key}": value for key, value in counts.items()}
    (line,) = describe(given, NAMES, ())
    # 55.5 of 93 pixels in the mean, and 66.5 of 93.
    assert line == "post-processing chosen on val: disk filled (IoU 0.5968 to 0.7151)"
    (line,) = describe(given, NAMES, (NONE, FILLED))
    assert line == (
        "post-processing of disk, filled: IoU 0.5968 (666 pixels right, 36 too many) before, IoU "
        "0.6167 (666 pixels right, 0 too many) after, of 1,080 pixels"
    )
    assert describe(given, NAMES, (NONE, NONE)) == ["post-processing: val chose none"]
    assert describe({}, NAMES, ()) == []
