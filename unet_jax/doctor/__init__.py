"""The doctor of data sets: looks once at every image and mask, and names what is wrong with them."""
