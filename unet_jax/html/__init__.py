"""Pages of one HTML file with all in it: elements, how they look, and what stands around them."""
