"""Compiled tokenizers for long texts: byte-level BPE and words, with the ids of the plain ones."""
