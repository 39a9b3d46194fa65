"""Serving: an API as OpenAI's, in front of one thread that generates; without TensorFlow."""
