"""A classifier in use, without TensorFlow: its head, its labels, and how well it guesses them."""
