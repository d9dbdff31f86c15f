"""The part of the doctor's page that shows which labels are suspect."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from unet_jax.data.sample import written
from unet_jax.doctor.audit import Audit, Judged, Region
from unet_jax.doctor.audit_runs import FILE, KEY, masks_of, read_suspects
from unet_jax.doctor.finding import setting
from unet_jax.doctor.mends import flag
from unet_jax.doctor.thumbnails import Album, find_thumbnails, frame
from unet_jax.html.elements import Html, make

SHOWN, LISTED = 12, 5  # images; regions of an image


def audit_section(audit: Audit, folder: Path, albums: Sequence[Album]) -> Iterable[Html]:
    """Writes the section.

    Args:
        audit: What was found.
        folder: Where its masks are.
        albums: Where images are looked for, in turn.

    Yields:
        Its elements.
    """
    worst = [image for image in audit.images if image.regions]
    if not worst:
        yield make("p", "No label is suspect.")
        return
    regions = sum(len(image.regions) for image in worst)
    yield make(
        "p",
        f"{regions} regions of {len(worst)} of the {len(audit.images)} images: there the network "
        "is as sure of another class as it is where labels say that class. Those with the "
        f"strongest evidence come first; all are in {FILE}. Look at each: networks err too.",
    )
    yield make("p", "To leave these pixels out of training and of all scores, in a page:")
    yield make("pre", setting(KEY, str(masks_of(folder))), tabindex="0")
    yield make("p", "On the command line:", kind="muted")
    yield make("pre", flag(KEY, str(masks_of(folder))), tabindex="0")
    for image in worst[:SHOWN]:
        yield make("article", *_image(image, folder, albums), kind="finding warning")


def _image(image: Judged, folder: Path, albums: Sequence[Album]) -> Iterable[Html]:
    yield make("h3", make("b", image.id), f" ({image.split})")
    yield make(
        "p",
        f"Score {image.score:.3f}; {image.suspect:.2%} of its pixels are suspect.",
        kind="muted",
    )
    suspects = read_suspects(folder, image.id)
    thumbnails = find_thumbnails(albums, [image.id], 1)
    thumbnails += [one for album in albums[:1] if (one := album.marked(image.id, suspects))]
    yield make("div", *map(frame, thumbnails), kind="thumbnails")
    items = [make("li", _region(region)) for region in image.regions[:LISTED]]
    more = len(image.regions) - LISTED
    yield make("ul", *items, *([make("li", f"and {more} more")] if more > 0 else []))


def _region(region: Region) -> str:
    starts = ", ".join(str(start) for start, _ in region.box)
    size = written([stop - start for start, stop in region.box])
    return (
        f"{region.given} should perhaps be {region.found}: {region.pixels} pixels in the {size} "
        f"from ({starts})"
    )
