"""GGUF files, out: models of GPT-2's and Llama's families for llama.cpp."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from ...config import ModelConfig
from ...config.running import ExportDType
from ...config.settings import to_dict
from ...errors import ConfigError, ModelFolderError
from ...inference.folder import ModelFolder
from ...inference.positions import frequencies_of_pairs, rotary_divisors
from ...inference.weights import check_finite, weight_shapes
from ...storage.paths import real_path
from ...storage.replacing import replaced_file, reserve_space
from ..families import GPT2, Family, expressed, family_of
from ..tensors import Entry, entries, tensor_shape, to_tensor
from .architectures import check_layers, write_settings
from .metadata import MODEL_KEY, TEXT_KEY
from .read_gguf import DIVISORS, EMBEDDING, HEAD, SAMPLING
from .read_vocabulary import END_KEYS, ROOT
from .write_vocabulary import WrittenVocabulary, written_vocabulary

KINDS = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
"""How matrices are written; vectors and positions are always float32."""
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
POSITIONS = "position_embd.weight"
HEADER_SPACE = 2**16
"""Bytes for the metadata beside the vocabulary, at most; names of tensors come on top."""


def export_gguf(folder: ModelFolder, file: Path, dtype: ExportDType) -> None:
    """Writes a model folder as one file that llama.cpp loads, one tensor at a time.

    On an error nothing is left behind, and what was at `file` is unchanged.

    Args:
        folder: The model.
        file: The file to write; its folder exists.
        dtype: The type of the matrices: f32, f16 or q8_0.

    Raises:
        ConfigError: The format cannot express the model.
        ModelFolderError: The model cannot be read, or the file cannot be written.
    """
    check_exportable(folder, dtype)
    vocabulary = written_vocabulary(folder)
    special = special_ids(folder, vocabulary)
    plan = _Plan(folder.model, dtype, extra_rows=vocabulary.extra_rows)
    if file.is_dir() or not file.parent.is_dir():
        reason = "is a folder" if file.is_dir() else "lies in a folder that does not exist"
        raise ModelFolderError(f"{file}: {reason}: choose another file")
    with ExitStack() as stack:
        with _writing(file):
            scratch = stack.enter_context(replaced_file(file))
            reserve_space(file.parent, plan.nbytes + HEADER_SPACE + vocabulary.nbytes)
        with folder.open_weights() as weights:
            writer = gguf.GGUFWriter(scratch, str(plan.family.gguf_name))
            try:
                with _writing(file):
                    _write_header(writer, folder, vocabulary, special, plan)
                for tensor in plan.tensors:
                    values = plan.values(tensor, weights.__getitem__, str(folder.path))
                    with _writing(file):
                        writer.write_tensor_data(values)
            finally:
                with _writing(file):
                    writer.close()
        with _writing(file):
            stack.close()


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Raises ModelFolderError where the block cannot write: `open_weights` would take it for an
    error of what is read."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFolderError(f"{file}: cannot be written: {reason}") from None


def check_exportable(folder: ModelFolder, dtype: ExportDType) -> None:
    """Checks that llama.cpp can run the model.

    Both kinds of GELU pass: llama.cpp has one, from a table of half-precision numbers, which is as
    far from either as the two are from each other.

    Args:
        folder: The model.
        dtype: The type of the matrices.

    Raises:
        ConfigError: The type or the model is unsupported; the message says why.
    """
    if dtype not in KINDS:
        raise ConfigError(f"dtype={dtype!r}: choose one of {', '.join(KINDS)}")
    family = family_of(folder.model)
    check_layers(family, folder.model)
    if family is GPT2 and folder.model.activation == "relu":
        raise ConfigError(
            "activation=relu: llama.cpp computes GPT-2's feed-forward layers with GELU only"
        )


@dataclass(frozen=True)
class _Planned:
    """A tensor of the file: how it is made, its shape and its type."""

    entry: Entry | None
    """None: the divisors of the rotary frequencies."""
    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType

    @property
    def nbytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size


class _Plan:
    """All tensors of a file, before the first is read."""

    def __init__(self, config: ModelConfig, dtype: ExportDType, extra_rows: int = 0) -> None:
        """`extra_rows`: 1 where the vocabulary has an end token that the model has not."""
        self.config, self.whole = config, expressed(config)
        self.family: Family = family_of(config)
        self.extra_rows = extra_rows
        self.tensors: list[_Planned] = []
        shapes = weight_shapes(self.whole)
        for entry in entries(self.family.gguf_table, self.whole):
            shape = tensor_shape(entry, self.whole, shapes)
            if entry.name in (EMBEDDING, HEAD):
                shape = (shape[0] + extra_rows, *shape[1:])
            self.tensors.append(_Planned(entry, entry.name, shape, _kind(entry.name, shape, dtype)))
        if len(config.rope_scaling or {}) > 1:
            shape = (config.head_dim // 2,)
            self.tensors.append(_Planned(None, DIVISORS, shape, KINDS["f32"]))

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes + gguf.GGUF_DEFAULT_ALIGNMENT + 128 for tensor in self.tensors)

    def values(self, tensor: _Planned, read: Callable[[str], np.ndarray], where: str) -> np.ndarray:
        """The bytes of a tensor. Raises ModelFolderError where its numbers do not fit."""
        if tensor.entry is None:
            frequencies = frequencies_of_pairs(self.config.head_dim, self.config.rope_theta)
            values = rotary_divisors(frequencies, self.config.rope_scaling).astype(np.float32)
        else:
            values = to_tensor(tensor.entry, self._reader(read), self.whole)
            if len(values) < tensor.shape[0]:
                values = np.concatenate([values, values.mean(axis=0, keepdims=True)])
        check_finite(values, tensor.name, where)
        with np.errstate(over="ignore"):
            converted = gguf.quantize(values, tensor.kind)
        block = gguf.GGML_QUANT_SIZES[tensor.kind][0]
        if block > 1:  # each has a scale in float16: a 127th of its largest number
            fits = np.abs(values).max() / 127 < np.finfo(np.float16).max
        else:
            fits = np.isfinite(converted).all()
        if not fits:
            raise ModelFolderError(
                f"{where}: {tensor.name} holds numbers too large for {tensor.kind.name}: choose f32"
            )
        return converted

    def _reader(self, read: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
        """Weights by name; those that the model does not have are zeros."""
        own, whole = weight_shapes(self.config), weight_shapes(self.whole)

        def weight(name: str) -> np.ndarray:
            """One weight as float32."""
            if name in own:
                return np.asarray(read(name), dtype=np.float32)
            return np.zeros(whole[name], dtype=np.float32)

        return weight


def _kind(name: str, shape: tuple[int, ...], dtype: ExportDType) -> gguf.GGMLQuantizationType:
    """The type of a tensor: matrices as asked for, in float16 where they have no whole blocks."""
    if len(shape) == 1 or name == POSITIONS:
        return KINDS["f32"]
    if shape[-1] % gguf.GGML_QUANT_SIZES[KINDS[dtype]][0]:
        return KINDS["f16"]
    return KINDS[dtype]


def notice_of(config: ModelConfig, dtype: ExportDType) -> str | None:
    """Explains where the types in a file are not those that were asked for.

    Args:
        config: The model's configuration.
        dtype: The type asked for.

    Returns:
        A message for the user; None if there is nothing to say.
    """
    tensors = _Plan(config, dtype).tensors
    wide = sum(tensor.kind is KINDS["f16"] for tensor in tensors) if dtype == "q8_0" else 0
    if not wide:
        return None
    return (
        f"{wide} matrices have rows that are not whole blocks of 32 numbers, as q8_0 needs them: "
        "they are written as f16"
    )


def _write_header(
    writer: gguf.GGUFWriter,
    folder: ModelFolder,
    vocabulary: WrittenVocabulary,
    special: dict[str, int],
    plan: _Plan,
) -> None:
    """Everything before the values of the tensors."""
    write_architecture(writer, folder.model, vocabulary.size)
    writer.add_file_type(FILE_TYPES[_dtype_name(plan)])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_origin(writer, folder)
    vocabulary.write(writer)
    _write_text(writer, folder, special)
    for tensor in plan.tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _dtype_name(plan: _Plan) -> str:
    """What most of the file is: the type of its embedding."""
    kind = next(tensor.kind for tensor in plan.tensors if tensor.name == EMBEDDING)
    return next(name for name, value in KINDS.items() if value is kind)


def write_architecture(writer: gguf.GGUFWriter, config: ModelConfig, vocab_size: int) -> None:
    """Writes the sizes and switches of a model, as llama.cpp names them.

    Args:
        writer: Gets the metadata.
        config: The model's configuration.
        vocab_size: Rows of the token embedding in the file.
    """
    writer.add_vocab_size(vocab_size)
    write_settings(writer, family_of(config), config)
    if config.rope_scaling and len(config.rope_scaling) == 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_scaling["factor"])


def _write_origin(writer: gguf.GGUFWriter, folder: ModelFolder) -> None:
    """Name and license."""
    origin = folder.description.get("source")
    origin = origin if isinstance(origin, dict) else {}
    known = {name: str(value) for name, value in origin.items() if isinstance(value, str)}
    writer.add_name(known.get("name", real_path(folder.path).name))
    writer.add_license(known.get("license", ""))
    writer.add_license_link(known.get("license_link", ""))
    writer.add_source_url(known.get("url", ""))


def _write_text(writer: gguf.GGUFWriter, folder: ModelFolder, special: dict[str, int]) -> None:
    """Special tokens, chat template, recommended sampling, and what only this package reads."""
    tokenizer = folder.tokenizer
    for name, token_id in special.items():
        writer.add_uint32(f"{ROOT}.{name}_token_id", token_id)
    writer.add_add_bos_token(bool(tokenizer.prefix_ids))
    if folder.chat_template is not None:
        writer.add_chat_template(folder.chat_template.source)
    for theirs, ours in SAMPLING.items():
        if ours in folder.generation:
            add = writer.add_int32 if ours == "top_k" else writer.add_float32
            add(f"general.sampling.{theirs}", folder.generation[ours])
    writer.add_string(MODEL_KEY, json.dumps(to_dict(folder.model)))
    text = {"tokenizer": tokenizer.kind, "start_ids": folder.start_ids}
    writer.add_string(TEXT_KEY, json.dumps(text))


def special_ids(folder: ModelFolder, vocabulary: WrittenVocabulary) -> dict[str, int]:
    """Finds the special tokens of a model.

    Args:
        folder: The model.
        vocabulary: The vocabulary that is written.

    Returns:
        Token ids by their names in the metadata, such as "bos" and "eos".

    Raises:
        ConfigError: A prefix or end id has no place in the format.
    """
    prefix, ends = folder.tokenizer.prefix_ids, sorted(folder.tokenizer.end_ids)
    if len(prefix) > 1:
        raise ConfigError(f"prefix_ids={list(prefix)}: llama.cpp puts one token before a text")
    if len(ends) > len(END_KEYS):
        raise ConfigError(
            f"end_ids={ends}: a GGUF file has places for {len(END_KEYS)} tokens that end a text"
        )
    template = folder.chat_template.special_tokens if folder.chat_template else {}
    ids_of = vocabulary.id_of
    named = {name: ids_of[text] for name, text in template.items() if text in ids_of}
    if named.get("eos_token") in ends:  # first the one that the template ends with
        ends = [named["eos_token"], *(i for i in ends if i != named["eos_token"])]
    ids = dict(zip(END_KEYS, ends or [vocabulary.end_id], strict=False))
    first = prefix[0] if prefix else named.get("bos_token")
    ids["bos"] = ids["eos"] if first is None else first
    for name, key in (("unk_token", "unknown"), ("pad_token", "padding")):
        if name in named:
            ids[key] = named[name]
    return ids
