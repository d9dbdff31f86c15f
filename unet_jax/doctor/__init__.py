"""The doctor of data sets: looks at every image and mask once, and names what is wrong."""
