"""The tokenizers of Hugging Face folders: ids of transformers, beginnings, ends, chat templates."""

import json

import numpy as np
import pytest

from minigpt_tf import export_model, import_model
from minigpt_tf.__main__ import main
from minigpt_tf.errors import MiniGPTError
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.interop.huggingface.read_tokenizer import (
    read_chat_template,
    read_generation,
    read_tokenizer,
)
from minigpt_tf.interop.license import restriction, with_notice
from tests.interop import checkpoints
from tests.interop.checkpoints import TEMPLATE, byte_tokenizer, change_json

TEXT = "The thin theatre, 12 times the größte ☃.<|endoftext|>\n  then"


def write_byte_pairs(folder, names=("vocab.json", "merges.txt")):
    """The tokenizer of `checkpoints` in GPT-2's two files, without its special token."""
    vocabulary = byte_tokenizer().get_vocab(with_added_tokens=False)
    (folder / names[0]).write_text(json.dumps(vocabulary))
    (folder / names[1]).write_text("#version: 0.2\nt h\nth e\n", encoding="utf-8")


def test_byte_level_files(tmp_path):
    """vocab.json and merges.txt give the ids of GPT2Tokenizer, added tokens included."""
    transformers = pytest.importorskip("transformers")
    write_byte_pairs(tmp_path)
    change_json(tmp_path / "added_tokens.json", **{"<|endoftext|>": 258, "<|im_end|>": 259})
    change_json(tmp_path / "special_tokens_map.json", eos_token="<|im_end|>")
    tokenizer, start_ids = read_tokenizer(tmp_path, {}, 300)
    theirs = transformers.GPT2Tokenizer(
        str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), unk_token="<|endoftext|>"
    )
    np.testing.assert_array_equal(tokenizer.encode(TEXT), theirs(TEXT).input_ids)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.end_ids == {259} and start_ids == [259] and tokenizer.prefix_ids == ()
    change_json(tmp_path / "added_tokens.json", **{"<|im_end|>": 270})
    with pytest.raises(MiniGPTError, match="should have the id 270, but gets 259"):
        read_tokenizer(tmp_path, {}, 300)


@pytest.mark.parametrize(
    ("vocabulary", "merges", "words"),
    [
        ('{"a": "b"}', "", "expected a number"),
        ('{"a": 1}', "a b c", "is not a pair"),
        ('{"a": 1}', "a b", "do not fit"),
        ("[]", "", "expected an object"),
        ('{"a": -1}', "", "expected a number"),
        ('{"a": 2000000000}', "", r"vocab\.json: has an id of 2,000,000,000, but only 1 tokens"),
    ],
)
def test_byte_level_files_that_are_damaged(tmp_path, vocabulary, merges, words):
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(MiniGPTError, match=words):
        read_tokenizer(tmp_path, {}, 300)


def test_no_tokenizer(tmp_path):
    with pytest.raises(MiniGPTError, match=r"expected tokenizer\.json, or vocab\.json"):
        read_tokenizer(tmp_path, {}, 300)


def with_post_processor(folder):
    """A tokenizer.json that puts <s> before and </s> behind a text."""
    import tokenizers

    backend = byte_tokenizer("<s>", "</s>")
    tokens = [("<s>", 258), ("</s>", 259)]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=tokens
    )
    backend.enable_truncation(3)
    backend.enable_padding(length=5, pad_id=0)
    backend.save(str(folder / "tokenizer.json"))


def test_the_post_processor_says_how_texts_begin(tmp_path):
    with_post_processor(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", eos_token={"content": "</s>"})
    tokenizer, start_ids = read_tokenizer(tmp_path, {}, 300)
    assert tokenizer.prefix_ids == (258,) and start_ids == [258]
    assert tokenizer.end_ids == {259}
    assert len(tokenizer.encode("a longer text, which is not cut")) > 20
    assert len(tokenizer.encode("a")) == 1


@pytest.mark.parametrize(("adds", "prefix"), [(True, (258,)), (False, ()), (None, ())])
def test_add_bos_token(tmp_path, adds, prefix):
    byte_tokenizer("<s>", "</s>").save(str(tmp_path / "tokenizer.json"))
    change_json(tmp_path / "tokenizer_config.json", add_bos_token=adds, bos_token="<s>")
    tokenizer, start_ids = read_tokenizer(tmp_path, {}, 300)
    assert tokenizer.prefix_ids == prefix and start_ids == [258]


def test_end_ids_come_from_all_files(tmp_path):
    byte_tokenizer("<|a|>", "<|b|>", "<|c|>").save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token_id": 258, "bos_token_id": 260}
    assert read_tokenizer(tmp_path, config, 300)[0].end_ids == {258}
    change_json(tmp_path / "generation_config.json", eos_token_id=[259, 5000, None])
    change_json(tmp_path / "tokenizer_config.json", eos_token="<|c|>")
    tokenizer, start_ids = read_tokenizer(tmp_path, config, 300)
    assert tokenizer.end_ids == {259, 260} and start_ids == [260]


def test_chat_templates(tmp_path):
    assert read_chat_template(tmp_path) is None
    settings = tmp_path / "tokenizer_config.json"
    change_json(settings, chat_template=TEMPLATE, eos_token="<|im_end|>")
    template = read_chat_template(tmp_path)
    messages = [{"role": "user", "content": "Hi"}]
    wanted = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert template.render(messages, add_generation_prompt=True) == wanted
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    change_json(settings, chat_template=named)
    assert read_chat_template(tmp_path).source == "yes"
    (tmp_path / "chat_template.jinja").write_text("the file counts")
    assert read_chat_template(tmp_path).source == "the file counts"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(MiniGPTError, match=r"chat_template\.jinja: is not UTF-8"):
        read_chat_template(tmp_path)


def test_generation_defaults(tmp_path):
    assert read_generation(tmp_path) == {}
    file = tmp_path / "generation_config.json"
    change_json(file, temperature=0.6, top_k=50, top_p=None, min_p="x", repetition_penalty=1000.0)
    assert read_generation(tmp_path) == {"temperature": 0.6, "top_k": 50}
    change_json(file, do_sample=False)
    assert read_generation(tmp_path) == {"greedy": True}


def test_all_of_it_travels_into_the_folder(tmp_path):
    source = tmp_path / "hf"
    checkpoints.llama(source)
    change_json(source / "tokenizer_config.json", chat_template=TEMPLATE, eos_token="<|endoftext|>")
    change_json(source / "generation_config.json", temperature=0.5)
    (source / "LICENSE.txt").write_text("do good")
    (source / "USE_POLICY.md").write_text("and no harm")
    (source / "licensing.py").write_text("no licence")
    (source / "README.md").write_text("---\nlanguage:\n- en\nlicense: 'apache-2.0'\n---\n# It\n")
    out = import_model(source, tmp_path / "out")
    contents = load_folder(out)
    assert contents.tokenizer.end_ids == {258} and contents.start_ids == [258]
    assert contents.generation == {"temperature": 0.5}
    assert contents.chat_template.special_tokens == {"eos_token": "<|endoftext|>"}
    assert (out / "LICENSE.txt").read_text() == "do good"
    assert (out / "USE_POLICY.md").read_text() == "and no harm"
    assert not (out / "licensing.py").exists()
    assert contents.description["source"]["license"] == "apache-2.0"
    np.testing.assert_array_equal(contents.tokenizer.encode("the end"), [257, 220, 68, 77, 67])
    (source / "LICENSE.txt").unlink()
    (out / "history.csv").write_text("of another model")
    import_model(source, out, overwrite=True)
    assert not (out / "LICENSE.txt").exists() and not (out / "history.csv").exists()


@pytest.mark.parametrize(
    ("front", "name"),
    [
        ("license: mit", "mit"),
        ("license:\n- cc-by-4.0\n- mit", "cc-by-4.0"),
        ("license: other\nlicense_name: 'llama3'\nlicense_link: x", "llama3"),
        ("tags:\n- mit", ""),
    ],
)
def test_the_name_of_the_license(tmp_path, front, name):
    from minigpt_tf.interop.license import license_name

    (tmp_path / "README.md").write_text(f"---\n{front}\n---\nlicense: gpl\n")
    assert license_name(tmp_path) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gemma", "Gemma is provided under and subject to the Gemma Terms of Use"),
        ("llama3.2", "Llama 3.2 is licensed under the Llama 3.2 Community License"),
        ("Llama-2", "Llama 2 is licensed under the Llama 2 Community License"),
        ("qwen-research", "Qwen RESEARCH LICENSE"),
        ("mrl", "Mistral AI Research License"),
        ("apache-2.0", None),
        ("gemmastone", None),
        ("", None),
    ],
)
def test_licenses_that_restrict(name, words):
    files = with_notice({"LICENSE": b"x"}, name)
    assert (restriction(name) is None) == (words is None) == ("NOTICE" not in files)
    if words is not None:
        assert words in files["NOTICE"].decode()
    assert with_notice({"notice.txt": b"theirs"}, name) == {"notice.txt": b"theirs"}


def test_a_restricting_license_is_shown_and_kept(tmp_path, capsys):
    source = tmp_path / "hf"
    checkpoints.llama(source)
    (source / "README.md").write_text("---\nlicense: llama3.2\n---\n")
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "license: llama3.2" in said and "restricted: its maker forbids some uses" in said
    kept = (tmp_path / "out" / "NOTICE").read_text()
    assert "Llama 3.2 Community License" in kept
    exported = export_model(tmp_path / "out", tmp_path / "again").path
    assert (exported / "NOTICE").read_text() == kept


def test_a_tokenizer_with_more_ids_than_the_model(tmp_path):
    checkpoints.gpt2(tmp_path / "hf")
    backend = byte_tokenizer(*[f"<|{i}|>" for i in range(60)])
    backend.save(str(tmp_path / "hf" / "tokenizer.json"))
    with pytest.raises(MiniGPTError, match=r"ids up to 317, but its token embedding has 300"):
        import_model(tmp_path / "hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_tokenizer_is_told_in_one_sentence(tmp_path):
    random, refused = np.random.default_rng(0), 0
    with_post_processor(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", eos_token={"content": "</s>"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = tmp_path / name
        content = file.read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            for place in random.integers(0, len(content), random.integers(1, 4)):
                damaged[place] = random.integers(256)
            if random.random() < 0.3:
                damaged = damaged[: random.integers(len(damaged))]
            file.write_bytes(damaged)
            try:
                tokenizer, _ = read_tokenizer(tmp_path, {}, 300)
                tokenizer.encode("the text")
            except MiniGPTError as error:
                refused += 1
                assert "\n" not in str(error)
        file.write_bytes(content)
    assert refused > 50
