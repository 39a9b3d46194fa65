"""Generation without TensorFlow: the engine, and everything around it."""
