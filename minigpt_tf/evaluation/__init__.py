"""Measures of a model: loss over a text, repetition, memorization, answers to questions."""
