"""A model for LiteRT, which runs on phones and small computers: .tflite and .litertlm."""
