"""Generation without TensorFlow: the model's arithmetic in NumPy, and everything around it."""
