"""What a tokenizer.json may ask for: what would take for ever or all memory is refused."""

import base64
import json

import pytest
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from minigpt_tf.errors import DataError
from minigpt_tf.text.library_limits import check_charsmap
from minigpt_tf.text.pattern_limits import check_pattern
from minigpt_tf.text.tokenizers import ImportedTokenizer, load_tokenizer
from tests.text.test_turns import byte_level, unigram

ADDED = {"id": 0, "content": "x", "special": True, "single_word": False}
ADDED |= {"lstrip": False, "rstrip": False, "normalized": False}


def load(path, change=None, kind="imported", make=byte_level, **parts):
    """A tokenizer from a file with other parts."""
    backend = make()
    for name, part in parts.items():
        setattr(backend, name, part)
    values = json.loads(backend.to_str())
    if change is not None:
        change(values)
    (path / "tokenizer.json").write_text(json.dumps(values))
    return load_tokenizer(path / "tokenizer.json", kind)


def test_sound_files_are_loaded(tmp_path):
    steps = [normalizers.NFKC(), normalizers.Replace(" ", "▁"), normalizers.Prepend("▁")]
    tokenizer = load(tmp_path, normalizer=normalizers.Sequence(steps))
    assert tokenizer.decode(tokenizer.encode("it")) == "▁it"
    assert load(tmp_path, make=unigram).encode("what").size


PATTERNS = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re)?|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))|[0-9]",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"(?:\r?\n)+(?!\r?\n)|(?:a|b)+",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_of_models_are_taken(pattern):
    check_pattern(pattern)


ENDLESS = ["(x+)+$", "(x|x)*y", "(x*)*", "((x+)y?)+", "(?:x|xy)*z", r"(?:\w+\s?)*$", "(x{2,7})+"]
ENDLESS += [r"(x)\1+", "((x|y)|x)*", "(x+x+)+y", r"(?i:x+)*", "(x|y+)*z", "x" * 10_001]


@pytest.mark.parametrize("pattern", ENDLESS)
def test_patterns_that_may_take_for_ever_are_refused(tmp_path, pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    with pytest.raises(DataError, match=r"tokenizer\.json: it.* pattern"):
        load(tmp_path, lambda values: values.update(pre_tokenizer={**split, "invert": False}))
    replace = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    for part in ("normalizer", "decoder"):
        with pytest.raises(DataError, match="pattern"):
            load(tmp_path, lambda values, part=part: values.update({part: replace}))


@pytest.mark.parametrize(
    ("part", "step"),
    [
        ("normalizer", normalizers.Sequence([normalizers.Replace("x", "yy")] * 20)),
        ("normalizer", normalizers.Replace("x", "y" * 2000)),
        ("normalizer", normalizers.Prepend("y" * 200_000)),
        ("decoder", decoders.Replace("x", "y" * 2000)),
        ("decoder", decoders.Sequence([decoders.Replace("x", "xxx")] * 30)),
    ],
)
def test_texts_may_not_grow_without_bound(tmp_path, part, step):
    with pytest.raises(DataError, match=f"its {part} makes a text more than 1,000 times as long"):
        load(tmp_path, **{part: step})


def charsmap(size, trie, texts):
    return size.to_bytes(4, "little") + trie + texts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (charsmap(2**32 - 4, b"12345678", b""), "truncated"),
        (charsmap(3, b"1234", b""), "truncated"),
        (charsmap(8, b"12345678", b"a" * 2000 + b"\0"), "2,000 bytes of a character"),
    ],
)
@pytest.mark.parametrize("escaped", [False, True])
def test_rules_of_sentencepiece_are_judged_first(tmp_path, content, words, escaped):
    with pytest.raises(DataError, match=words):
        check_charsmap(content)

    def change(values):
        text = base64.b64encode(content).decode()
        values["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": text}

    with pytest.raises(DataError, match=words):
        load(tmp_path, change, make=unigram)
    if escaped:
        file = tmp_path / "tokenizer.json"
        hidden = file.read_text().replace("precompiled", r"\u0070recompiled")
        file.write_text(hidden)
        with pytest.raises(DataError, match=words):
            load_tokenizer(file, "imported")


def test_padding_and_truncation_are_of_training(tmp_path):
    def change(values):
        padding = {"strategy": {"Fixed": 2**45}, "direction": "Left", "pad_to_multiple_of": None}
        values["padding"] = {**padding, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
        values["truncation"] = {"max_length": 2, "strategy": "LongestFirst", "stride": 0}
        values["truncation"]["direction"] = "Right"

    for kind in ("imported", "bpe"):
        assert len(load(tmp_path, change, kind).encode("a text of a few words")) > 5


def test_other_bounds(tmp_path):
    single = ["$A"] * 9
    with pytest.raises(DataError, match="writes a text 9 times"):
        load(tmp_path, post_processor=processors.TemplateProcessing(single=single))

    def change(values):
        values["model"] = {"type": "WordPiece", "vocab": {"x": 0}, "unk_token": "x"}
        values["model"] |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 10**12}

    with pytest.raises(DataError, match="max_input_chars_per_word=1000000000000: must be at most"):
        load(tmp_path, change)


@pytest.mark.parametrize("token_id", [1_000_300, 2**32 - 1, 2**40])
def test_ids_far_beyond_the_tokens_are_refused(tmp_path, token_id):
    """To write them, the library would keep a list of all that are unused: 16 GB for 2**32."""

    def change(values):
        values["model"]["vocab"]["far"] = token_id

    words = f"has an id of {token_id:,}, but only 298 tokens" if token_id < 2**32 else "is damaged"
    with pytest.raises(DataError, match=rf"tokenizer\.json: {words}"):
        load(tmp_path, change)


def test_some_ids_may_be_unused(tmp_path):
    tokenizer = load(tmp_path, lambda values: values["model"]["vocab"].update(far=5000))
    assert (tokenizer.vocab_size, tokenizer.known_size) == (5001, 298)
    assert json.loads(tokenizer.to_bytes())["model"]["vocab"]["far"] == 5000


def test_what_the_library_gives_up_on_is_one_line(tmp_path):
    tokenizer = load(tmp_path, make=unigram)
    tokenizer.backend.model = models.Unigram([("a", -1.0)])  # nothing for what is unknown
    tokenizer.backend.pre_tokenizer = None
    with pytest.raises(DataError, match="cannot encode this text"):
        tokenizer.encode("zz")
    with pytest.raises(DataError, match="cannot encode this text"):
        tokenizer.chunk_encoder(10)("zz")


def test_half_characters_are_replaced():
    backend = byte_level()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = ImportedTokenizer(backend)
    whole = tokenizer.encode("it \ufffd is \U0001f600").tolist()
    assert tokenizer.encode("it \ud83d is \ud83d\ude00").tolist() == whole
    assert tokenizer.chunk_encoder(10)("it \ud83d is \ud83d\ude00").tolist() == whole
