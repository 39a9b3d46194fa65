"""Training: a plan, the loop that takes any job through its steps, checkpoints, a model folder."""
