"""Hugging Face's folders, in and out."""
