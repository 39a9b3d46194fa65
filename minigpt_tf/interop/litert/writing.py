"""A model folder -> .tflite for LiteRT, or .litertlm for LiteRT-LM, which has the text side too."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError, ModelFolderError
from ...inference.engine import Engine
from ...inference.folder import ModelFolder
from ...inference.weights import check_finite
from ...machine import check_fits_memory
from ...storage.model_folder import CHAT_TEMPLATE_NAME
from ...storage.replacing import reserve_space
from ..huggingface.write_tokenizer import export_tokenizer

USUAL_CONTEXT = 1024
"""Tokens that keys and values are kept of, unless more are asked for: the caches are copied at each
token."""

PARTS = {"model": ".tflite", "words": ".json", "facts": ".textproto", "template": ".jinja"}
"""What a .litertlm file is made of, while it is made."""

PLAIN_MESSAGES = (
    "{%- set plain = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- set content = message['content'] if message['content'] is string"
    " else message['content'] | map(attribute='text') | join('') -%}"
    "{%- set plain.messages ="
    " plain.messages + [{'role': message['role'], 'content': content}] -%}"
    "{%- endfor -%}"
    "{%- set messages = plain.messages %}"
)
"""Put before a chat template: LiteRT-LM gives it contents as lists of parts."""

CHECKED_TOKENS, CHECKED_LOGITS = 24, 8
"""Length of the sequence that is compared, and of its end whose logits are."""

TOLERANCES = {"f32": 1e-4, "int8": 0.5}
"""Largest root mean square of what logits differ by, in that of the logits about their mean; those
of unrelated models differ by 1.4. The ids that are compared are random, where int8 shows most.
"""


def kept_context(folder: ModelFolder, context_length: int | None) -> int:
    """The tokens that a file has room for.

    Args:
        folder: The model.
        context_length: What was asked for.

    Returns:
        At most the model's.

    Raises:
        ConfigError: More was asked for.
    """
    own = folder.model.context_length
    if context_length is not None and context_length > own:
        raise ConfigError(f"context_length={context_length}: the model has {own}")
    return context_length or min(own, USUAL_CONTEXT)


def notice_of(folder: ModelFolder, context_length: int | None) -> str | None:
    """Says where a file has room for less than the model.

    Args:
        folder: The model.
        context_length: What was asked for.

    Returns:
        A message for the user; None if there is nothing to say.
    """
    own, kept = folder.model.context_length, kept_context(folder, context_length)
    if context_length is not None or kept == own:
        return None
    return f"room for {kept} tokens of the model's {own}: --context-length makes it more"


def write_tflite(
    folder: ModelFolder, file: Path, dtype: str, context_length: int | None = None
) -> None:
    """Writes a model for LiteRT: signatures prefill and decode, keys and values as inputs.

    Args:
        folder: The model.
        file: The .tflite file to write.
        dtype: Of the matrices, "f32" or "int8".
        context_length: Tokens that it has room for (unset: the model's, at most 1,024).

    Raises:
        ConfigError: LiteRT is not installed, or the model is too large for the format.
        ModelFolderError: The weights are damaged, or the check of what was written fails.
        OSError: The disk is full.
    """
    context = kept_context(folder, context_length)
    for name in ("flatbuffers", "ai_edge_litert.schema_py_generated"):
        installed(name)
    from .flatbuffer import MOST_BYTES
    from .graph import build_model

    size = folder.model.parameter_count * (4 if dtype == "f32" else 1)
    if size > MOST_BYTES:
        smaller = "choose --dtype int8" if dtype == "f32" else "choose --format gguf"
        raise ConfigError(f"the weights have {size / 1e9:.1f} GB, a .tflite has 2: {smaller}")
    check_fits_memory(2 * size, "the model and the file", "choose --dtype int8")
    with folder.open_weights() as weights:

        def read(name: str) -> np.ndarray:
            """One weight as float32."""
            values = np.asarray(weights[name], dtype=np.float32)
            check_finite(values, name, str(folder.path))
            return values

        model = build_model(folder.model, read, context, dtype)
        reserve_space(file.parent, model.nbytes)
        model.write(file)
    _check(folder, file, dtype, context)


def write_litertlm(
    folder: ModelFolder, file: Path, dtype: str, context_length: int | None = None
) -> None:
    """Writes a model for LiteRT-LM: `write_tflite`'s with the tokenizer, template and end tokens.

    Args:
        folder: The model.
        file: The .litertlm file to write.
        dtype: As for `write_tflite`.
        context_length: As for `write_tflite`.

    Raises:
        ConfigError: As `write_tflite`.
        DataError: The tokenizer has no form in tokenizer.json.
        ModelFolderError: As `write_tflite`.
        OSError: The disk is full.
    """
    builder = installed("litert_lm_builder")
    scratch = file.parent
    try:
        tokenizer = export_tokenizer(folder)
    except DataError as error:
        raise DataError(f"{error}; --format tflite takes any tokenizer") from None
    parts = {name: scratch / f"{name}{suffix}" for name, suffix in PARTS.items()}
    try:
        write_tflite(folder, parts["model"], dtype, context_length)
        description = {**tokenizer.description, "post_processor": None}  # start_token does it
        parts["words"].write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")
        facts = _facts(folder, kept_context(folder, context_length))
        parts["facts"].write_text(facts, encoding="utf-8")
        made = builder.LitertLmFileBuilder()
        made.add_system_metadata(
            builder.Metadata(key="Authors", value="minigpt_tf", dtype=builder.DType.STRING)
        )
        made.add_llm_metadata(
            str(parts["facts"]),
            jinja_prompt_template_path=_template(folder, parts["template"]),
            supports_thinking=False,
            supports_function_calling=False,
        )
        made.add_hf_tokenizer(str(parts["words"]))
        made.add_tflite_model(str(parts["model"]), builder.TfLiteModelType.PREFILL_DECODE)
        reserve_space(scratch, parts["model"].stat().st_size)
        with open(file, "wb") as out:
            made.build(out, validate_metadata=True)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def installed(name: str) -> Any:
    """A module of the extra `litert`.

    Args:
        name: Of the module.

    Returns:
        The module.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"files for LiteRT need {error.name or name}: pip install 'minigpt_tf[litert]' (or, in "
            "a clone, pip install -e '.[litert]')"
        ) from None


def _facts(folder: ModelFolder, context: int) -> str:
    """LiteRT-LM's LlmMetadata (runtime/proto/llm_metadata.proto) as text.

    A model that never ends gets an id beyond its vocabulary as the stop token that has to be.
    """
    tokenizer, size = folder.tokenizer, folder.model.vocab_size
    lines = [f"max_num_tokens: {context}", "llm_model_type { generic_model {} }"]
    lines += [f"stop_tokens {{ {_ids([i])} }}" for i in sorted(tokenizer.end_ids) or [size]]
    if tokenizer.prefix_ids:
        lines.append(f"start_token {{ {_ids(tokenizer.prefix_ids)} }}")
    suppressed = tokenizer.suppressed_ids(size).tolist()
    if suppressed:
        lines.append(f"suppress_tokens {{ {' '.join(f'ids: {i}' for i in suppressed)} }}")
    return "\n".join(lines)


def _ids(ids: Any) -> str:
    return f"token_ids {{ {' '.join(f'ids: {i}' for i in ids)} }}"


def _template(folder: ModelFolder, file: Path) -> str | None:
    """Writes the chat template, with the texts of its special tokens; the file's name."""
    if folder.chat_template is None:
        return None
    source = (folder.path / CHAT_TEMPLATE_NAME).read_text(encoding="utf-8")
    texts = folder.chat_template.special_tokens
    named = {name: text for name, text in texts.items() if name in source}
    heads = [f"{{%- set {name} = {json.dumps(text)} -%}}" for name, text in named.items()]
    file.write_text("".join(heads) + PLAIN_MESSAGES + source, encoding="utf-8")
    return str(file)


def _check(folder: ModelFolder, file: Path, dtype: str, context: int) -> None:
    """Raises ModelFolderError where the file does not compute what the engine does."""
    from .running import LiteRTRunner

    length = min(context, CHECKED_TOKENS)
    ids = np.random.default_rng(0).integers(0, folder.model.vocab_size, length).tolist()
    last = min(CHECKED_LOGITS, length)
    with folder.open_weights() as weights:
        engine = Engine(folder.model, {name: np.asarray(w) for name, w in weights.items()})
    expected = engine.all_logits(ids)[-last:]
    del engine
    prompt, found = ids[: length - last + 1], []
    for logits in LiteRTRunner(file, plain=True).logits(prompt):
        found.append(logits)
        prompt += ids[len(prompt) : len(prompt) + 1]
    spread = np.std(expected - expected.mean(axis=-1, keepdims=True))
    difference = float(np.sqrt(np.mean((np.array(found) - expected) ** 2)) / spread)
    if not difference <= TOLERANCES[dtype]:
        raise ModelFolderError(
            f"{folder.path}: self-check failed: LiteRT's logits differ by {difference:.2g} of "
            "their spread: nothing was written"
        )
