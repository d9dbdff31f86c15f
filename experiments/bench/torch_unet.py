"""The U-Net of `unet_jax.models.unet` in PyTorch, for comparison alone."""

import itertools

import torch
from torch import nn


def double_conv(c: int, features: int) -> nn.Sequential:
    """Returns two times 3x3 convolution, batch normalisation, ReLU."""
    layers: list[nn.Module] = []
    for inputs in (c, features):
        layers += [
            nn.Conv2d(inputs, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Encoder, bottom and decoder with features (w, 2w, 4w, 8w, 16w), transposed convolutions."""

    def __init__(self, width: int, classes: int) -> None:
        """Makes the layers."""
        super().__init__()
        features = [width * 2**level for level in range(5)]
        self.encoder = nn.ModuleList(
            [double_conv(c, f) for c, f in zip([3, *features[:-1]], features, strict=True)]
        )
        pairs = list(itertools.pairwise(features))[::-1]
        self.up = nn.ModuleList([nn.ConvTranspose2d(deep, f, 2, stride=2) for f, deep in pairs])
        self.decoder = nn.ModuleList([double_conv(2 * f, f) for f, _ in pairs])
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, 3, H, W] to logits [B, K, H, W]."""
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)
