"""Ways up: transposed convolutions and what can take their place."""
