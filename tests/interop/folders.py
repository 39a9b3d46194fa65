"""Model folders of tiny random models, and llama.cpp's answers."""

import zlib

import numpy as np

from minigpt_tf.config import CONFIG_NAME, MODEL_NAME
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.folder import describe_model, load_folder, write_tokenizer
from minigpt_tf.inference.weights import weight_shapes
from minigpt_tf.model.keras_file import write_keras_file
from minigpt_tf.storage.json_files import write_json
from minigpt_tf.storage.model_folder import CHAT_TEMPLATE_NAME

TEXT = "the cat sat on the mat, and the café's owner said: it's 12345 o'clock!\n\nnaïve — 日本語 "
TEXT += "\U0001f600 "


def family_config(family, **overrides):
    """A tiny model of a family: 2 layers of width 32."""
    preset = {"gpt2": "gpt2", "llama": "modern"}[family]
    sizes = {"vocab_size": 300, "context_length": 64, "embed_dim": 32, "num_layers": 2}
    sizes |= {"num_heads": 4, "ff_dim": 64, "dropout": 0.0}
    sizes["num_kv_heads"] = 2 if family == "llama" else 4
    return model_preset(preset, **{**sizes, **overrides})


def random_weight(name, shape):
    """Numbers of a spread that makes the logits peaked; no bias and no scale is trivial.

    A head of its own prefers, after each token, the one that is 7 places further.
    """
    if name == "logits/kernel":
        return np.roll(random_weight("token_embedding/embeddings", shape[::-1]), 7, axis=0).T
    random = np.random.default_rng(zlib.crc32(name.encode()))
    values = random.standard_normal(shape).astype(np.float32)
    if name.endswith(("/gamma", "/scale")):
        return 1 + 0.2 * values
    if name.endswith(("/beta", "/bias")):
        return 0.2 * values
    return values * np.float32(1.0 if "embedding" in name else 0.1)


def make_folder(path, config, tokenizer, *, template=None, **sections):
    """A model folder with random weights."""
    path.mkdir()
    shapes = weight_shapes(config)
    write_keras_file(path / MODEL_NAME, config, lambda name: random_weight(name, shapes[name]))
    if template is not None:
        (path / CHAT_TEMPLATE_NAME).write_text(template.source)
        sections["special_tokens"] = template.special_tokens
    description = describe_model(config, tokenizer, [1], **sections)
    write_json(path / CONFIG_NAME, description)
    write_tokenizer(path, tokenizer)
    return load_folder(path)


class LlamaCpp:
    """A GGUF file in llama.cpp."""

    def __init__(self, file, vocab_only=False):
        import llama_cpp

        self.api = llama_cpp
        self.model = llama_cpp.Llama(
            str(file),
            n_ctx=128,
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            vocab_only=vocab_only,
            type_k=llama_cpp.GGML_TYPE_F32,  # of the cache
            type_v=llama_cpp.GGML_TYPE_F32,
            verbose=False,
        )

    def encode(self, text):
        """Ids of a text, special tokens and all."""
        return self.model.tokenize(text.encode(), add_bos=False, special=True)

    def logits(self, ids):
        """Logits (T, V)."""
        self.model.reset()
        self.model.eval(list(ids))
        return self.model.scores[: len(ids)].copy()

    def greedy(self, ids, count):
        """So many greedy tokens after the ids."""
        ids, start = list(ids), len(ids)
        self.model.reset()
        self.model.eval(ids)
        while len(ids) < start + count:
            ids.append(int(self.model.scores[len(ids) - 1].argmax()))
            self.model.eval(ids[-1:])
        return ids[start:]


def engine_greedy(engine, ids, count):
    """The same from our engine."""
    new = [int(engine.prefill(ids).argmax())]
    while len(new) < count:
        new.append(int(engine.decode_step(new[-1]).argmax()))
    return new
