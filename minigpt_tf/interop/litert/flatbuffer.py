"""LiteRT's file format, out: graphs of operators over static shapes, and what they share.

The format is a flatbuffer (tensorflow/lite/schema/schema.fbs). A file has a graph for each
signature; constants and weights are in it once, and are read when they are written, so that memory
holds one weight beside the file's own bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
VERSION = 3
ALIGNMENT = 16
MOST_BYTES = 2**31 - 2**20
"""Offsets in a flatbuffer have 31 bits."""

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int8": schema.TensorType.INT8,
    "bool": schema.TensorType.BOOL,
}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of one graph."""

    index: int
    shape: Shape


@dataclass(frozen=True)
class Buffer:
    """Bytes of the file: of a constant or a weight."""

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]
    scales: np.ndarray | None = None
    """Of an int8 matrix: what its rows are multiplied by."""

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def Pack(self, builder: flatbuffers.Builder) -> int:
        """Writes the bytes, aligned, which the schema's own class does not do.

        Args:
            builder: Of the file.

        Returns:
            The place of the buffer.
        """
        content = np.ascontiguousarray(self.read(), dtype=self.dtype).view(np.uint8).reshape(-1)
        builder.StartVector(1, content.size, ALIGNMENT)
        start = builder.Head() - content.size
        builder.head = start
        builder.Bytes[start : start + content.size] = content.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


@dataclass
class Graph:
    """The operators of one signature."""

    model: "LiteRTModel"
    name: str
    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    known: dict[int, Tensor] = field(default_factory=dict)
    """Number of a buffer -> its tensor here."""

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> Tensor:
        """A tensor that the caller gives.

        Args:
            name: Its name in the signature.
            shape: Its shape.
            dtype: Its type.

        Returns:
            The tensor.
        """
        self.inputs[name] = self._tensor(f"{self.name}_{name}", shape, dtype)
        return self.inputs[name]

    def constant(self, values: Any, dtype: str = "float32") -> Tensor:
        """A tensor of known values, in the file once.

        Args:
            values: What NumPy makes an array of.
            dtype: Its type.

        Returns:
            The tensor.
        """
        return self.stored(self.model.constant(np.asarray(values, dtype=dtype)))

    def stored(self, number: int) -> Tensor:
        """The tensor of a buffer.

        Args:
            number: Of the buffer in the model.

        Returns:
            The tensor.
        """
        if number not in self.known:
            buffer = self.model.buffers[number]
            tensor = self._tensor(f"constant_{number}", buffer.shape, buffer.dtype, number)
            self.known[number] = tensor
        return self.known[number]

    def add(
        self,
        operator: str,
        inputs: Sequence[Tensor | None],
        shape: Shape,
        dtype: str = "float32",
        **options: Any,
    ) -> Tensor:
        """Appends an operator with one result.

        Args:
            operator: Its name in the schema's BuiltinOperator, such as "FULLY_CONNECTED".
            inputs: Its tensors; None for one that is left out.
            shape: Of the result.
            dtype: Of the result.
            options: The fields of its options, and their class as `options`.

        Returns:
            The result.
        """
        return self.add_many(operator, inputs, [shape], dtype, **options)[0]

    def add_many(
        self,
        operator: str,
        inputs: Sequence[Tensor | None],
        shapes: Sequence[Shape],
        dtype: str = "float32",
        **options: Any,
    ) -> list[Tensor]:
        """Appends an operator with several results.

        Args:
            operator: As for `add`.
            inputs: As for `add`.
            shapes: Of the results.
            dtype: Of the results.
            options: As for `add`.

        Returns:
            The results.
        """
        results = [self._tensor(f"{self.name}_{len(self.tensors)}", s, dtype) for s in shapes]
        made = schema.OperatorT(
            opcodeIndex=self.model.code(operator),
            inputs=[-1 if x is None else x.index for x in inputs],
            outputs=[x.index for x in results],
        )
        if options:
            kind = options.pop("options")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(schema, f"{kind}T")(**options)
        self.operators.append(made)
        return results

    def _tensor(self, name: str, shape: Shape, dtype: str, buffer: int = 0) -> Tensor:
        made = schema.TensorT(
            shape=np.array(shape, dtype=np.int32), type=TYPES[dtype], buffer=buffer, name=name
        )
        scales = self.model.buffers[buffer].scales
        if scales is not None:
            made.quantization = schema.QuantizationParametersT(
                scale=scales, zeroPoint=np.zeros(scales.size, dtype=np.int64)
            )
        self.tensors.append(made)
        return Tensor(len(self.tensors) - 1, shape)


class LiteRTModel:
    """Graphs, and the buffers that they share."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        nothing = Buffer((0,), "int8", lambda: np.zeros(0, dtype=np.int8))
        self.buffers = [nothing]  # the format's own: tensors that are computed name it
        self.numbers: dict[Any, int] = {}
        self.codes: list[str] = []

    def graph(self, name: str) -> Graph:
        """A new signature.

        Args:
            name: Its key.

        Returns:
            An empty graph.
        """
        self.graphs.append(Graph(self, name))
        return self.graphs[-1]

    def constant(self, values: np.ndarray) -> int:
        """Adds the buffer of a constant.

        Args:
            values: Of the constant.

        Returns:
            The number of the buffer with these values, old or new.
        """
        key = values.shape, values.dtype.name, values.tobytes()
        return self.buffer(key, Buffer(values.shape, values.dtype.name, lambda: values))

    def buffer(self, key: Any, buffer: Buffer) -> int:
        """Adds a buffer, unless there is one of that key.

        Args:
            key: Its own, such as its name.
            buffer: What is added.

        Returns:
            Its number.
        """
        if key not in self.numbers:
            self.numbers[key] = len(self.buffers)
            self.buffers.append(buffer)
        return self.numbers[key]

    def code(self, operator: str) -> int:
        """Adds an operator to the file's list, unless it is there.

        Args:
            operator: Its name in the schema.

        Returns:
            Its place in the list.
        """
        if operator not in self.codes:
            self.codes.append(operator)
        return self.codes.index(operator)

    @property
    def nbytes(self) -> int:
        """The size of the file, at most."""
        things = sum(len(graph.tensors) + len(graph.operators) for graph in self.graphs)
        scales = sum(b.scales.size for b in self.buffers if b.scales is not None)
        content = sum(buffer.nbytes + 4 * ALIGNMENT for buffer in self.buffers)
        return content + 512 * things + 12 * scales * len(self.graphs) + 2**16

    def write(self, file: Path) -> None:
        """Writes the file.

        Args:
            file: Where to.
        """
        builder = flatbuffers.Builder(self.nbytes)  # large enough: it would grow by copying
        model = schema.ModelT(
            version=VERSION,
            description="minigpt_tf",
            operatorCodes=[self._operator_code(name) for name in self.codes],
            subgraphs=[self._subgraph(graph) for graph in self.graphs],
            signatureDefs=[self._signature(i, graph) for i, graph in enumerate(self.graphs)],
            buffers=self.buffers,
        )
        builder.Finish(model.Pack(builder), IDENTIFIER)
        with open(file, "wb") as out:
            out.write(memoryview(builder.Bytes)[builder.Head() :])

    def _operator_code(self, name: str) -> Any:
        number = getattr(schema.BuiltinOperator, name)
        old = min(number, 127)  # older readers have a byte for it
        return schema.OperatorCodeT(deprecatedBuiltinCode=old, builtinCode=number, version=1)

    def _subgraph(self, graph: Graph) -> Any:
        return schema.SubGraphT(
            name=graph.name,
            tensors=graph.tensors,
            operators=graph.operators,
            inputs=[tensor.index for tensor in graph.inputs.values()],
            outputs=[tensor.index for tensor in graph.outputs.values()],
        )

    def _signature(self, index: int, graph: Graph) -> Any:
        maps = [
            [schema.TensorMapT(name=name, tensorIndex=t.index) for name, t in tensors.items()]
            for tensors in (graph.inputs, graph.outputs)
        ]
        return schema.SignatureDefT(
            inputs=maps[0], outputs=maps[1], signatureKey=graph.name, subgraphIndex=index
        )
