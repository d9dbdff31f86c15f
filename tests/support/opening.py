"""Data sets as training opens them."""

from unet_jax.data.check import check
from unet_jax.data.folder import open_folder


def opened(root, val_fraction=0.34, **given):
    """Opens a folder, and checks every split."""
    dataset = open_folder(str(root), val_fraction, 0, **given)
    for name, split in dataset.splits.items():
        check(split, name)
    return dataset
