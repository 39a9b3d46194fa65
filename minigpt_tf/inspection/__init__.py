"""Looking inside a model: Keras's summary, Netron's graph."""
