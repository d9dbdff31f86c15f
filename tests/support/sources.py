"""Sources of images of given sizes, for tests that say what their pixels are."""

from unet_jax.data.sample import RGB


class Sized:
    """What such a source is but for reading; nothing is made before it is asked for."""

    spec = RGB

    def __init__(self, sizes):
        self.sizes = tuple(sizes)
        self.ids = [f"image_{i}" for i in range(len(self.sizes))]

    def __len__(self):
        return len(self.sizes)

    def shape(self, index):
        return self.sizes[index]
