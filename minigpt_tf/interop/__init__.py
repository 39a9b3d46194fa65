"""Models of other tools, in and out: Hugging Face, OpenAI, GGUF, Keras."""
