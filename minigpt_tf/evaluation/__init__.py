"""Measures of a model: so far, how much of its training text it can recite."""
