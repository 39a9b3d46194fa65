"""Documents -> token ids -> windows. TensorFlow is never imported here."""
