"""The training loss: weighted terms, over pixels and over classes."""
