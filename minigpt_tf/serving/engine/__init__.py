"""The engine's side: models that are served, the thread that runs them, and its answers."""
