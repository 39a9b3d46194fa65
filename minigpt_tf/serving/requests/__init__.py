"""What a request says: its fields, and what of them reaches the engine."""
