"""ONNX graphs of jax's programs: one rule a primitive, sizes as arithmetic of the input's shape."""
