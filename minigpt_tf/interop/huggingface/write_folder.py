"""A model folder -> the folder that Hugging Face's transformers loads (AutoModelForCausalLM).

config.json, generation_config.json      architecture and sampling, as transformers 4 and 5 have
model.safetensors                        or model-00001-of-0000N.safetensors and their index
tokenizer.json, tokenizer_config.json    and chat_template.jinja
README.md, LICENSE ...
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...config import MODEL_NAME, ModelConfig
from ...config.settings import to_dict
from ...errors import ConfigError, ModelFolderError
from ...events import SILENT, Listener
from ...inference.folder import ModelFolder
from ...inference.weights import check_finite, weight_shapes
from ...storage.json_files import write_json
from ...storage.model_folder import CHAT_TEMPLATE_NAME
from ...storage.paths import real_path
from ...text.chat_template import ChatTemplate
from ..families import LLAMA, Family, expressed, family_of
from ..license import license_files
from ..tensors import Entry, entries, tensor_shapes, to_tensor
from .config_fields import fields_of
from .read_config import OWN_NAME
from .rope import written_rope
from .write_safetensors import write_safetensors
from .write_tokenizer import ExportedTokenizer, export_tokenizer

DTYPE_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}

SAMPLING_NAMES = {
    "max_new_tokens": "max_new_tokens",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram": "no_repeat_ngram_size",
}
"""Fields of SamplingConfig -> of generation_config.json, whatever way tokens are chosen."""

FILTER_NAMES = ("temperature", "top_k", "top_p", "min_p")
"""The same, where tokens are drawn at random; the names are equal."""


OUTPUT_BIAS = "model.layers.{i}.self_attn.o_proj.bias"
"""transformers' Llama has it where it has biases of query, key and value; ours never does."""


@dataclass(frozen=True)
class _Plan:
    """What is to be written, with nothing left that could be refused but the weights' values."""

    folder: ModelFolder
    family: Family
    entries: list[Entry]
    tokenizer: ExportedTokenizer
    dtype: str


def write_huggingface_folder(
    folder: ModelFolder, out: Path, dtype: str, listener: Listener = SILENT
) -> None:
    """Writes a Hugging Face folder, and reads the weights back.

    Args:
        folder: The model.
        out: An empty folder.
        dtype: f32, f16 or bf16.
        listener: Notified of progress, in bytes.

    Raises:
        ConfigError: The format cannot express the model.
        DataError: The format cannot express the tokenizer.
        ModelFolderError: model.h5 is damaged.
        OSError: The disk is full.
    """
    family = family_of(folder.model)
    _check_heads(folder.model, family)
    wanted = entries(family.huggingface, expressed(folder.model))
    plan = _Plan(folder, family, wanted, export_tokenizer(folder), dtype)
    _write_weights(plan, out, listener)
    write_json(out / "config.json", _config(plan))
    write_json(out / "generation_config.json", _generation_config(plan))
    description = json.dumps(plan.tokenizer.description, ensure_ascii=False, indent=2)
    (out / "tokenizer.json").write_text(description + "\n", encoding="utf-8", newline="\n")
    write_json(out / "tokenizer_config.json", _tokenizer_config(plan))
    if folder.chat_template is not None:
        template = _template_source(plan, folder.chat_template)
        (out / CHAT_TEMPLATE_NAME).write_text(template, encoding="utf-8", newline="")
    for name, content in license_files(folder.path).items():
        (out / name).write_bytes(content)
    (out / "README.md").write_text(_card(plan), encoding="utf-8", newline="\n")


def _check_heads(config: ModelConfig, family: Family) -> None:
    """Raises ConfigError where transformers 5 refuses a model that llama.cpp would take."""
    if family.divides and config.embed_dim % config.num_heads:
        raise ConfigError(
            f"embed_dim={config.embed_dim} is not a multiple of num_heads={config.num_heads}, "
            f"which transformers asks of a model of the family {family.name} whatever its head_dim "
            "is"
        )


def _write_weights(plan: _Plan, out: Path, listener: Listener) -> None:
    config = plan.folder.model
    full = expressed(config)
    own_shapes, full_shapes = weight_shapes(config), weight_shapes(full)
    entry_of = {entry.name: entry for entry in plan.entries}
    shapes = tensor_shapes(plan.entries, full)
    if plan.family is LLAMA and config.qkv_bias:
        names = [OUTPUT_BIAS.format(i=i) for i in range(config.num_layers)]
        shapes |= dict.fromkeys(names, (config.embed_dim,))
    file = plan.folder.path / MODEL_NAME
    with plan.folder.open_weights() as datasets:

        def weight(name: str) -> np.ndarray:
            """One of our weights; zeros for a bias that the model does not have."""
            if name not in own_shapes:
                return np.zeros(full_shapes[name], dtype=np.float32)
            try:
                values = np.asarray(datasets[name], dtype=np.float32)
            except OSError as error:
                raise ModelFolderError(f"{file}: {name} cannot be read: {error}") from None
            check_finite(values, name, str(file))
            return values

        def tensor(name: str) -> np.ndarray:
            """A tensor of the file, float32."""
            if name not in entry_of:
                return np.zeros(shapes[name], dtype=np.float32)
            return to_tensor(entry_of[name], weight, full)

        write_safetensors(out, shapes, plan.dtype, tensor, listener)


def _config(plan: _Plan) -> dict[str, Any]:
    """config.json: the fields of the family's own configuration, and ours as a whole."""
    config = plan.folder.model
    rope = written_rope(config) if config.positions == "rotary" else {}
    return {
        **fields_of(plan.family, config),
        **rope,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": DTYPE_NAMES[plan.dtype],
        **_token_ids(plan),
        OWN_NAME: to_dict(config),
    }


def _token_ids(plan: _Plan) -> dict[str, Any]:
    """bos_token_id, eos_token_id and pad_token_id; null where the model has none, since
    transformers would take GPT-2's."""
    ids, start_ids = plan.tokenizer.ids, plan.folder.start_ids
    begin = ids.get("bos_token", start_ids[0] if len(start_ids) == 1 else None)
    ends = sorted(plan.folder.tokenizer.end_ids)
    end = ends if len(ends) > 1 else next(iter(ends), None)
    return {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": ids.get("pad_token")}


def _generation_config(plan: _Plan) -> dict[str, Any]:
    """generation_config.json: the ids, and what the model folder recommends."""
    recommended = plan.folder.generation
    described = {name: i for name, i in _token_ids(plan).items() if i is not None}
    described |= {
        name: recommended[ours] for ours, name in SAMPLING_NAMES.items() if ours in recommended
    }
    filters = {name: recommended[name] for name in FILTER_NAMES if name in recommended}
    if recommended.get("greedy") or filters.get("temperature") == 0:
        return {**described, "do_sample": False}
    if filters:  # transformers 4 takes the 50 likeliest where nothing is said
        return {**described, "do_sample": True, "top_k": 0, **filters}
    return described


def _tokenizer_config(plan: _Plan) -> dict[str, Any]:
    """tokenizer_config.json: what tokenizer.json does not say."""
    tokenizer, prefix_ids = plan.tokenizer, plan.folder.tokenizer.prefix_ids
    described: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": plan.folder.model.context_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **tokenizer.named,
    }
    if tokenizer.literal:
        described["split_special_tokens"] = True
    if not prefix_ids or [*prefix_ids] == [tokenizer.ids.get("bos_token")]:
        described |= {"add_bos_token": bool(prefix_ids), "add_eos_token": False}
    cut = tokenizer.description["pre_tokenizer"] or {}
    if "add_prefix_space" in cut:  # else transformers 4 sets it to False
        described["add_prefix_space"] = cut["add_prefix_space"]
    return described


def _template_source(plan: _Plan, template: ChatTemplate) -> str:
    """The chat template; the texts that it uses and that are not special tokens come with it."""
    texts = {n: text for n, text in plan.tokenizer.template_texts.items() if n.isidentifier()}
    # Jinja writes texts as JSON does, and transformers drops the line end after a block.
    lines = [
        f"{{% set {name} = {json.dumps(text, ensure_ascii=False)} %}}\n"
        for name, text in sorted(texts.items())
    ]
    return "".join(lines) + template.source


def _card(plan: _Plan) -> str:
    """README.md, the model card."""
    folder, config = plan.folder, plan.folder.model
    name = real_path(folder.path).name
    origin = folder.description.get("source")
    license = origin.get("license") if isinstance(origin, dict) else None
    head = ["library_name: transformers", "pipeline_tag: text-generation"]
    if isinstance(license, str):
        head.append(f"license: {json.dumps(license)}")
    return "\n".join(
        [
            "---",
            *head,
            "---",
            f"# {name}",
            "",
            f"A {plan.family.name} model of {config.parameter_count:,} parameters in "
            f"{DTYPE_NAMES[plan.dtype]}, {config.num_layers} layers, {config.embed_dim} wide, with "
            f"a context of {config.context_length:,} tokens; written by minigpt_tf.",
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'tokenizer = AutoTokenizer.from_pretrained("PATH")  # this folder',
            'model = AutoModelForCausalLM.from_pretrained("PATH")',
            'inputs = tokenizer("TEXT", return_tensors="pt")',
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=60)[0]))",
            "```",
            "",
        ]
    )
