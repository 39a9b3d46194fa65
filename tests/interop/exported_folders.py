"""Model folders for the tests of this room: random weights, tiny sizes, any switches."""

from pathlib import Path

import numpy as np

from minigpt_tf.config import CONFIG_NAME, MODEL_NAME, ModelConfig
from minigpt_tf.inference.folder import describe_model, write_tokenizer
from minigpt_tf.inference.weights import weight_shapes
from minigpt_tf.model.keras_file import write_keras_file
from minigpt_tf.storage.json_files import write_json
from minigpt_tf.storage.model_folder import CHAT_TEMPLATE_NAME
from minigpt_tf.text.tokenizers import BaseTokenizer, train_tokenizer
from tests.conftest import tiny_config

TEXT = (
    "He was born in 1887, in Erode; his mother sang: he sang too!\n\n"
    "The numbers (all of them) were his friends... 1729 is a <number>.\r\n"
    "Café ÉTUDE \tnaïve über straße ΟΔΥΣΣΕΥΣ σας\n"
) * 3


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights large enough that every one of them matters to the logits."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in weight_shapes(config).items():
        values = random.normal(0, 0.25, shape)
        if name.endswith(("gamma", "scale")):
            values += 1
        weights[name] = values.astype(np.float32)
    return weights


def make_folder(
    folder: Path,
    preset: str,
    tokenizer: BaseTokenizer | str,
    *,
    chat_template: str | None = None,
    special_tokens: dict[str, str] | None = None,
    start_ids: tuple[int, ...] = (1,),
    generation: dict | None = None,
    **switches,
) -> Path:
    """A model folder with random weights. `tokenizer`: one, or a kind that is trained on TEXT."""
    if isinstance(tokenizer, str):
        tokenizer = train_tokenizer(tokenizer, [TEXT], {"word": 24, "bpe": 300}.get(tokenizer, 0))
    sizes = {"vocab_size": max(2, tokenizer.vocab_size), "context_length": 48}
    config = tiny_config(preset, **{**sizes, **switches})
    folder.mkdir(parents=True)
    write_keras_file(folder / MODEL_NAME, config, random_weights(config).__getitem__)
    write_tokenizer(folder, tokenizer)
    sections = {"generation": generation or {}}
    if chat_template is not None:
        (folder / CHAT_TEMPLATE_NAME).write_text(chat_template, encoding="utf-8")
        sections["special_tokens"] = special_tokens or {}
    write_json(folder / CONFIG_NAME, describe_model(config, tokenizer, list(start_ids), **sections))
    return folder
