"""Classifiers: a head on a model's last token."""
