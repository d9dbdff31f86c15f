import re

import pytest
from support.paths import ROOT

from unet_jax.doctor import alignment, survey
from unet_jax.doctor.faults import FAULTS, classes, files, intensities, labels, objects, splits
from unet_jax.doctor.faults import alignment as lying

TEXT = (ROOT / "docs" / "doctor.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))
THRESHOLDS = {
    "orientation": (f"stronger by {files.GAIN} if",),
    "values": (
        f"over {labels.MANY} values",
        f"{labels.NEARLY_ALL:.0%}",
        f"within {labels.CLOSE_TO} of",
    ),
    "one_class": (f"{labels.RARELY:.0%}",),
    "imbalance": (f"over {classes.RATIO:g} times",),
    "near": (f"in {splits.NEAR} of", f"by {splits.DIFFERENT:g} of", f"{splits.OFTEN:.0%}"),
    "groups": (f"at most {splits.ALIKE} of 64",),
    "pages": (f"at most {splits.ALIKE} of 64",),
    "shift": (f"lie {splits.SHIFTED} standard", f"of {intensities.ENOUGH} images"),
    "value_range": ("a quarter" if intensities.NARROW == 4 else "",),
    "faint": (f"an {intensities.FAINT}th", f"in {intensities.UNUSUAL:.0%}"),
    "inverted": (f"lie {intensities.UNLIKE} of", f"within {intensities.ALIKE}"),
    "clipped": (f"over {intensities.CLIPPED:.0%}", f"has {intensities.RARELY_CLIPPED:.0%}"),
    "small_objects": (f"of {objects.ENOUGH} objects",),
}


def test_the_page_has_a_row_for_every_fault_in_its_order():
    assert list(ROWS) == list(FAULTS)


@pytest.mark.parametrize("fault", THRESHOLDS)
def test_thresholds_are_those_of_the_page(fault):
    for text in THRESHOLDS[fault]:
        assert text
        assert text in ROWS[fault]


def test_numbers_of_the_alignment_are_those_of_the_page():
    text = " ".join(TEXT.split())
    assert f"up to {alignment.REACH} steps" in text
    assert f"up to {survey.CLOSE} images of each split" in text
    assert f"blurred over {alignment.BLUR} pixels" in text
    assert f"an image of up to {alignment.SIDE}" in text
    assert f"1 in {1 / lying.CHANCE:,.0f} of" in text
    assert f"higher by {lying.LEAST} on average" in text
