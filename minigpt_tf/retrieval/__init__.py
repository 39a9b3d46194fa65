"""Answers from records: an index of what files say, and what of it goes into a prompt."""
