"""What a client gets: objects, streams, probabilities, counts."""
