"""Sources of labelled images and the batches made of them."""
