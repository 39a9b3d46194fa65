"""Training: the loop around Keras's fit, checkpoints, and the model folder at the end."""
