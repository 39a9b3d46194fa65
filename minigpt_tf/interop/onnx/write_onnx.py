"""A folder for onnxruntime: the graph, its weights in a file of their own, and the tokenizer."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...inference.folder import ModelFolder, write_tokenizer
from ...storage.model_folder import CHAT_TEMPLATE_NAME
from ...storage.replacing import reserve_space
from .graph import OPSET, forward_graph, signature

MODEL_NAME, DATA_NAME = "model.onnx", "model.onnx.data"
ALIGNMENT = 64


def write_onnx(folder: ModelFolder, out: Path) -> None:
    """Writes model.onnx, model.onnx.data, the tokenizer and the chat template.

    Weights are written one after the other, so that a model of any size needs little memory.

    Args:
        folder: The model.
        out: An empty folder.

    Raises:
        ModelFolderError: The weights are damaged, or the disk is full.
    """
    graph = forward_graph(folder.model)
    reserve_space(out, 4 * folder.model.parameter_count)
    tensors = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    with folder.open_weights() as weights, open(out / DATA_NAME, "wb") as data:
        for name in weights:
            values = _stored(np.asarray(weights[name], dtype=np.float32), name)
            data.write(b"\0" * (-data.tell() % ALIGNMENT))
            tensors.append(_external(name, values, data.tell()))
            data.write(np.ascontiguousarray(values).tobytes())
    inputs, outputs = signature(folder.model)
    body = helper.make_graph(graph.nodes, "gpt", inputs, outputs, tensors)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    model.producer_name = "minigpt_tf"
    onnx.save(model, out / MODEL_NAME)
    onnx.checker.check_model(str(out / MODEL_NAME))
    write_tokenizer(out, folder.tokenizer)
    if folder.chat_template is not None:
        (out / CHAT_TEMPLATE_NAME).write_text(folder.chat_template.source, encoding="utf-8")


def _stored(values: np.ndarray, name: str) -> np.ndarray:
    """A weight as the graph has it: kernels (inputs, outputs), norms and biases one row."""
    if name.endswith("/embeddings"):
        return values
    if not name.endswith("/kernel"):
        return values.reshape(-1)
    inputs = values.shape[:2] if name.endswith("/attention_output/kernel") else values.shape[:1]
    return values.reshape(int(np.prod(inputs)), -1)


def _external(name: str, values: np.ndarray, offset: int) -> TensorProto:
    """A tensor whose numbers lie in the data file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": DATA_NAME, "offset": offset, "length": values.nbytes}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
