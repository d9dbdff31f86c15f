"""Sources of labelled pictures and the batches made of them."""
