"""A page on which a reader drops an image and sees the classes of its pixels."""
