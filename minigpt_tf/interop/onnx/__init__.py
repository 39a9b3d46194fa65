"""A model as an ONNX graph, for onnxruntime."""
