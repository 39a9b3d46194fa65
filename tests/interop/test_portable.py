"""model.bin and its three readers: in C, in JavaScript, and in Python alone, against the engine."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.errors import ConfigError, MiniGPTError, ModelFolderError
from minigpt_tf.inference.blocks import round_to_int8
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.prompt import Prompt, encode_chat, encode_prompt
from minigpt_tf.inference.stages import Passages, Stage, kernel_of, rows_of
from minigpt_tf.interop.export import export_model
from minigpt_tf.interop.portable import exports
from minigpt_tf.interop.vocabularies import (
    CUTTINGS,
    byte_level_tokenizer,
    sentencepiece_from_pieces,
    symbols_of,
)
from minigpt_tf.text.chat_template import ChatTemplate, message
from minigpt_tf.text.compiled.byte_level import byte_symbols
from minigpt_tf.text.tokenizers import (
    BytePairTokenizer,
    CharTokenizer,
    ImportedTokenizer,
    WordTokenizer,
)
from tests.interop.folders import TEXT, family_config, make_folder

HERE = Path(exports.__file__).parent
COUNT = 100
CLOSE = 2e-3
"""Logits that lie closer may change places: sums are added up in another order."""
GEMMA = {
    "norm_placement": "both",
    "activation": "geglu_tanh",
    "layer_pattern": "LLG",
    "window": 7,
    "num_layers": 3,
    "embedding_scale": 5.5,
    "tie_embeddings": True,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_context_length": 16.0,
}
SHAPES = {
    "lecture": (
        "gpt2",
        {"positions": "sinusoidal", "norm_placement": "after", "logits_bias": True},
    ),
    "gpt2": ("gpt2", {"tie_embeddings": True}),
    "gelu": ("gpt2", {"activation": "gelu", "tie_embeddings": False, "head_dim": 5}),
    "relu2": ("gpt2", {"activation": "relu2", "use_bias": False, "qkv_bias": False}),
    "llama": ("llama", {"rope_scaling": LLAMA3, "num_kv_heads": 1, "ff_dim": 37}),
    "qwen3": ("llama", {"qk_norm": "head", "qkv_bias": True, "head_dim": 12}),
    "olmo2": ("llama", {"qk_norm": "all", "norm_placement": "output"}),
    "smollm3": ("llama", {"layer_pattern": "GN", "activation": "geglu"}),
    "gemma2": ("llama", {**GEMMA, "attention_softcap": 3.0, "logits_softcap": 9.0}),
    "gemma3": ("llama", {**GEMMA, "qk_norm": "head", "rope_theta_local": 900.0}),
}


def bpe():
    return BytePairTokenizer.train([TEXT] * 3, 290)


def cut_as(pre):
    """A byte-level vocabulary with some merges, cut as other models do."""
    learned = json.loads(bpe().backend.to_str())["model"]
    tokens = sorted(learned["vocab"], key=learned["vocab"].get)
    merges = [" ".join(m) if isinstance(m, list) else m for m in learned["merges"]]
    types = [3 if token == "<|endoftext|>" else 1 for token in tokens]
    return ImportedTokenizer(byte_level_tokenizer(tokens, merges, pre, types), [0])


def pieces():
    """SentencePiece's BPE, as of Llama 2."""
    words = ["\u2581", *"thecasonmw,", "th", "\u2581th", "\u2581the", "at", "\u2581c", "\u2581cat"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words]
    types = [2, 3, 3, *[6] * 256, *[1] * len(words)]
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))]
    return ImportedTokenizer(sentencepiece_from_pieces(tokens, scores, types), [2], [1])


TOKENIZERS = {
    "word": lambda: WordTokenizer.train([TEXT], 40),
    "words, no unknown": lambda: WordTokenizer.from_words(["the", "cat", "café's"], oov_token=None),
    "char": lambda: CharTokenizer.train([TEXT]),
    "bytes": bpe,
    **{pre: lambda pre=pre: cut_as(pre) for pre in ("smollm", "llama-bpe", "qwen2")},
    "pieces": pieces,
}
TEXTS = [
    TEXT,
    "The CAT sat... on 1234567 mats\u00a0today!\r\n\r\n  It's 'quoted', we'LL see \u2014 \u00dcber",
    "  two spaces\n\n\tand a tab 3\u00b2 \u0664\u0665 \u2167 x",
    "a<|endoftext|>b",
    "\U0001f600\u65e5\u672c\u8a9e\u0130 'S 's",
]


@pytest.fixture(scope="session")
def c_program(tmp_path_factory):
    """Compiles model.c, or a program around it. Returns what starts it."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("c")

    def compiled(name, *flags, source=None):
        program = folder / name
        if not program.exists():
            file = HERE / "model.c"
            if source is not None:
                file = folder / f"{name}.c"
                file.write_text(source)
            command = ["gcc", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror", *flags]
            command += ["-I", str(HERE), str(file), "-lm", "-o", str(program)]
            subprocess.run(command, check=True)
        return str(program)

    return compiled


NODE = """
import { readFileSync } from "node:fs";
const { File, Tokens, generate } = await import(process.argv[2]);
const content = readFileSync(process.argv[3]);
const start = content.byteOffset, end = start + content.length;
const file = new File(content.buffer.slice(start, end));
const tokens = new Tokens(file), [kind, text, count] = process.argv.slice(4);
const chat = kind === "chat";
const options = { chat, count: Number(count) };
const ids = kind === "encode" ? tokens.encode(text) : generate(file, tokens, text, options);
console.log([...ids].join(" "));
"""


@pytest.fixture(scope="session")
def javascript(tmp_path_factory):
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "run.mjs").write_text(NODE)
    shutil.copyfile(HERE / "web" / "model.js", folder / "model.mjs")
    return ["node", str(folder / "run.mjs"), str(folder / "model.mjs")]


def printed(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def python_reader():
    spec = importlib.util.spec_from_file_location("answer", HERE / "answer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exported(tmp_path, config, tokenizer, dtype="f32", **sections):
    """The folder of a model, and model.bin."""
    folder = make_folder(tmp_path / "model", config, tokenizer, **sections)
    out = export_model(folder.path, tmp_path / "out", "c", dtype)
    assert sorted(out.files) == ["model.bin", "model.c"]
    return folder, tmp_path / "out" / "model.bin"


def check_greedy(folder, prompt, found, count):
    """The tokens are the engine's; where they are not, its two likeliest were a tie. Past the
    context too, where the newer half is a prompt. How many were the same."""
    engine, _ = Engine.load(folder)
    tokenizer, context = folder.tokenizer, folder.model.context_length
    suppressed = tokenizer.suppressed_ids(folder.model.vocab_size)
    generator = mg.TextGenerator(engine, tokenizer, folder.start_ids)
    settings = {"max_new_tokens": count, "temperature": 0.0}
    given = Prompt(text="", ids=prompt, unknown=[], dropped=0)
    expected = generator.generate(given, mg.SamplingConfig(**settings)).ids
    pairs = enumerate(zip(found, expected, strict=False))
    same = next((i for i, (one, other) in pairs if one != other), None)
    if same is None:
        assert len(found) == len(expected)
        return len(found)
    ids, first = list(prompt), 0
    for token in expected[:same]:
        ids.append(token)
        if len(ids) - 1 - first == context:
            first = len(ids) - max(1, context // 2)
    logits = engine.prefill(ids[first:])
    logits[suppressed] = -np.inf
    assert abs(logits[expected[same]] - logits[found[same]]) < CLOSE, (expected, found)
    return same


@pytest.mark.parametrize("name", SHAPES)
def test_every_switch_gives_the_engines_tokens(name, tmp_path, c_program, javascript):
    family, overrides = SHAPES[name]
    config = family_config(family, **{"context_length": 64, **overrides})
    tokenizer = bpe()
    tokenizer.end_ids = frozenset()
    folder, file = exported(tmp_path, config, tokenizer)
    prompt = encode_prompt(tokenizer, 64, "the cat").ids
    program = c_program("model", "-O3")
    runs = {
        "C": [program, str(file), "the cat", "--ids", "-n", str(COUNT)],
        "JavaScript": [*javascript, str(file), "text", "the cat", str(COUNT)],
    }
    bundle = export_model(folder.path, tmp_path / "model.pyz", "bundle")
    runs["Python"] = [sys.executable, str(bundle.path), "the cat", "--ids", "-n", str(COUNT)]
    lengths = [check_greedy(folder, prompt, printed(run), COUNT) for run in runs.values()]
    assert max(lengths) == COUNT


@pytest.mark.parametrize("name", TOKENIZERS)
def test_texts_have_the_tokenizers_ids(name, tmp_path, c_program, javascript):
    tokenizer = TOKENIZERS[name]()
    size = tokenizer.vocab_size
    folder, file = exported(tmp_path, family_config("llama", vocab_size=size), tokenizer)
    source = '#define main answer\n#include "model.c"\n#undef main\n'
    source += "int main(int count, char **words) {\n    static Tokens ids;\n"
    source += "    load_model(words[1]);\n    ids.ids = room(100000, sizeof(int));\n"
    source += "    encode(&ids, words[count - 1], 0);\n    (void)answer;\n"
    source += '    for (int i = 0; i < ids.count; i++) printf("%d ", ids.ids[i]);\n}\n'
    program = c_program("encoder", "-O1", source=source)
    module = python_reader()
    ours = module.Tokens(module.File(file.read_bytes()))
    for text in TEXTS:
        if "\u0130" in text and name.startswith("word"):
            continue  # Python's lower case of it has two characters
        expected = folder.tokenizer.encode(text).tolist()
        assert ours.encode(text) == expected, text
        assert printed([program, str(file), text]) == expected, text
        assert printed([*javascript, str(file), "encode", text]) == expected, text
        if name != "pieces":  # where a text begins with a space that is none
            assert ours.decode(expected) == folder.tokenizer.decode(expected)


def test_a_message_stands_in_the_chat_template(tmp_path, c_program, javascript):
    source = "{% for m in messages %}<|endoftext|>{{ m.role }}\n{{ m.content }}{% endfor %}"
    source += "{% if add_generation_prompt %}<|endoftext|>\n{% endif %}"
    template = ChatTemplate(source, {})
    tokenizer = bpe()
    config = family_config("llama", context_length=128)
    folder, file = exported(tmp_path, config, tokenizer, template=template)
    tokenizer = folder.tokenizer
    asked = "the cat<|endoftext|>"
    prompt = encode_chat(tokenizer, 128, template, [message("user", asked)]).ids
    program = c_program("model", "-O3")
    for command in (
        [program, str(file), asked, "--chat", "--ids", "-n", "20"],
        [*javascript, str(file), "chat", asked, "20"],
    ):
        check_greedy(folder, prompt, printed(command), 20)


def test_a_model_without_a_template_has_no_chat(tmp_path, c_program):
    _, file = exported(tmp_path, family_config("gpt2"), bpe())
    done = subprocess.run(
        [c_program("model", "-O3"), str(file), "hi", "--chat"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "model: this model has no chat template\n")


def test_what_is_no_number_of_tokens_is_refused(tmp_path, c_program):
    folder, file = exported(tmp_path, family_config("gpt2"), bpe())
    program = c_program("checked", "-O1", "-g", "-fsanitize=address,undefined")
    for words in (["-n", "-300"], ["-n", "abc"], ["-n"]):
        text = "\u00fc" * 25
        done = subprocess.run([program, str(file), text, *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (2, "model: -n needs a number of tokens\n")
    bundle = export_model(folder.path, tmp_path / "one.pyz", "bundle").path
    command = [sys.executable, str(bundle), "the cat", "--chat"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "model: this model has no chat template\n")


def test_8_bits_are_those_of_gguf(tmp_path, c_program, javascript):
    sizes = {"embed_dim": 40, "ff_dim": 70, "num_heads": 5, "num_kv_heads": 5}
    config = family_config("llama", tie_embeddings=False, **sizes)
    folder, file = exported(tmp_path, config, bpe(), "q8_0")
    module = python_reader()
    read = module.File(file.read_bytes())
    ids, model = [5, 17, 4, 9], module.Model(read)
    found = [model.forward(i, position) for position, i in enumerate(ids)]
    with folder.open_weights() as opened:
        weights = {weight: np.asarray(values) for weight, values in opened.items()}
    for weight, values in weights.items():
        if weight.endswith(("/kernel", "/embeddings")):
            rounded = round_to_int8(np.ascontiguousarray(rows_of(values, weight))).values()
            weights[weight] = kernel_of(rounded, values.shape, weight)
    passages = Passages(folder.model, weights, np.array([ids]))
    for layer in range(folder.model.num_layers):
        for stage in Stage:
            passages.advance(layer, stage)
    expected = passages.inputs @ weights["logits/kernel"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    texts = [printed([c_program("model", "-O3"), str(file), "the", "--ids", "-n", "30"])]
    texts.append(printed([*javascript, str(file), "text", "the", "30"]))
    assert texts[0] == texts[1]


def test_c_is_clean_under_the_sanitizers(tmp_path, c_program):
    program = c_program("checked", "-O1", "-g", "-fsanitize=address,undefined")
    for number, (tokenizer, dtype) in enumerate([("word", "f32"), ("pieces", "q8_0")]):
        made = TOKENIZERS[tokenizer]()
        config = family_config("llama", vocab_size=made.vocab_size, **{**GEMMA, "head_dim": 6})
        (tmp_path / str(number)).mkdir()
        _, file = exported(tmp_path / str(number), config, made, dtype)
        for text in ("", "the cat \u00e9", *TEXTS[:1]):
            done = subprocess.run(
                [program, str(file), text[:40], "-n", "70", "-t", "1"],
                capture_output=True,
                text=True,
                errors="replace",
            )
            assert done.returncode == 0 and "runtime error" not in done.stderr, done.stderr


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_c_says_what_is_wrong_with_a_file(damage, tmp_path, c_program):
    _, file = exported(tmp_path, family_config("gpt2"), bpe())
    content = file.read_bytes()
    broken = tmp_path / "broken.bin"
    if damage != "missing":
        broken.write_bytes(content[: len(content) // 2] if damage == "cut" else b"hello")
    program = c_program("checked", "-O1", "-g", "-fsanitize=address,undefined")
    done = subprocess.run([program, str(broken), "hi"], capture_output=True, text=True)
    said = {"cut": "is cut off", "other": "is not what minigpt", "missing": "cannot open"}[damage]
    assert done.returncode == 2 and said in done.stderr


def test_what_cannot_be_cut_is_refused(tmp_path):
    tokenizer = cut_as("gpt-4o")
    make_folder(tmp_path / "model", family_config("llama"), tokenizer)
    with pytest.raises(ConfigError, match=r"cuts text as gpt-4o.*smollm.*--format keras"):
        export_model(tmp_path / "model", tmp_path / "out", "c")
    assert not (tmp_path / "out").exists()
    assert "gpt-4o" in CUTTINGS


def test_outputs_are_not_replaced_unasked(tmp_path):
    make_folder(tmp_path / "model", family_config("gpt2"), bpe())
    for name, out in (("web", "page"), ("bundle", "one.pyz")):
        export_model(tmp_path / "model", tmp_path / out, name)
        with pytest.raises(ModelFolderError, match="--overwrite"):
            export_model(tmp_path / "model", tmp_path / out, name)
        export_model(tmp_path / "model", tmp_path / out, name, overwrite=True)
    with pytest.raises(MiniGPTError, match=r"ends in \.pyz"):
        export_model(tmp_path / "model", tmp_path / "one", "bundle")


def test_symbols_cover_every_byte():
    assert {symbols_of(chr(i)) for i in range(128)} <= set(byte_symbols())
