"""Random tiny models in the formats of other tools, made by those tools."""

import json
from pathlib import Path

import numpy as np
import pytest

VOCABULARY = 300
"""Ids of the models; the tokenizers here have a few less."""

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(*special):
    """A byte-level tokenizer with two merges; `special` tokens get the ids from 258 on."""
    import tokenizers

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: i for i, text in enumerate([*alphabet, "th", "the"])}
    model = tokenizers.models.BPE(vocab=vocabulary, merges=[("t", "h"), ("th", "e")])
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(list(special or ["<|endoftext|>"]))
    return backend


def randomise(model, seed=0):
    """Weights that are large enough for every mistake to show, biases and norms too."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn_like(parameter) * 0.2
            parameter.copy_(values + 1 if parameter.dim() == 1 and "norm" in name else values)
    return model.eval()


def gpt2(folder, **overrides):
    """A GPT-2 by transformers, saved in the folder with a tokenizer."""
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 20, "vocab_size": VOCABULARY}
    ends = {"bos_token_id": 258, "eos_token_id": 258}
    config = transformers.GPT2Config(**{**sizes, **ends, **overrides})
    return saved(randomise(transformers.GPT2LMHeadModel(config)), folder)


def llama(folder, **overrides):
    """A Llama by transformers, saved in the folder with a tokenizer."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
    others = {"max_position_embeddings": 32, "bos_token_id": 258, "eos_token_id": 258}
    config = transformers.LlamaConfig(**{**sizes, **others, **overrides})
    return saved(randomise(transformers.LlamaForCausalLM(config)), folder)


def saved(model, folder, **options):
    """The model, after it was saved with a tokenizer."""
    model.save_pretrained(folder, **options)
    byte_tokenizer().save(str(Path(folder) / "tokenizer.json"))
    return model


def change_json(file, remove=(), **values):
    """Sets and removes fields of a JSON file, which is made if it is not there."""
    file = Path(file)
    fields = json.loads(file.read_text()) if file.is_file() else {}
    fields = {name: value for name, value in fields.items() if name not in remove}
    file.write_text(json.dumps({**fields, **values}))


def change_tensors(folder, change):
    """`change` gets the tensors of model.safetensors by name, and may do as it likes."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(Path(folder) / "model.safetensors")
    change(tensors)
    save_file(tensors, Path(folder) / "model.safetensors")


def check_parity(model, out, tolerance=1e-4, length=None):
    """Asserts that the model folder has the logits of transformers, in Keras and in the engine.

    `length`: of the tokens (unset: the whole context).
    """
    import keras
    import torch

    import minigpt_tf.model  # noqa: F401  registers the layers
    from minigpt_tf.inference.engine import Engine
    from minigpt_tf.inference.folder import load_folder

    contents = load_folder(out)
    length = length or contents.model.context_length
    ids = np.random.default_rng(1).integers(0, contents.model.vocab_size, length)
    with torch.no_grad():
        wanted = model(torch.tensor(ids)[None]).logits[0].float().numpy()
    assert np.abs(wanted).max() > 0.5  # else a tolerance would say nothing
    loaded = keras.models.load_model(out / "model.h5", compile=False)
    of_keras = keras.ops.convert_to_numpy(loaded(ids[None], training=False))[0]
    assert np.abs(of_keras - wanted).max() < tolerance
    engine, _ = Engine.load(contents)
    assert np.abs(engine.all_logits(ids) - wanted).max() < tolerance
