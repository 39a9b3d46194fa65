"""Files for LiteRT and LiteRT-LM: the logits and tokens of the engine, in Google's own runtimes."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.__main__ import main
from minigpt_tf.errors import ConfigError, DataError, ModelFolderError
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import ROOT
from tests.interop.exported_folders import TEXT, make_folder
from tests.interop.test_huggingface_export import engine_of
from tests.switches import SWITCHES

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="no LiteRT: [litert]")

PROMPT_LENGTHS = (1, 2, 16, 17, 40)
"""One token has no prefill; 17 - 1 tokens fill a chunk, 40 - 1 fill two and a part."""


class Device:
    """What a program on a device does with a file, after its signatures alone."""

    def __init__(self, file: Path) -> None:
        self.model = interpreters.Interpreter(model_path=str(file), num_threads=1)
        self.decode = self.model.get_signature_runner("decode")
        details = self.decode.get_input_details()
        self.empty = {n: np.zeros(d["shape"], d["dtype"]) for n, d in details.items() if "kv" in n}
        names = [n for n in self.model.get_signature_list() if n.startswith("prefill_")]
        self.prefill = self.model.get_signature_runner(min(names, key=lambda n: int(n[8:])))
        self.length = self.prefill.get_input_details()["tokens"]["shape"][1]

    def logits(self, ids, ahead: int = 0) -> np.ndarray:
        """(T - ahead, V): the first `ahead` tokens by prefill, the others by decode."""
        kept, rows = self.empty, []
        for start in range(0, ahead, self.length):
            real = min(self.length, ahead - start)
            tokens, places = np.zeros((1, self.length), np.int32), np.zeros(self.length, np.int32)
            tokens[0, :real] = ids[start : start + real]
            places[:real] = np.arange(start, start + real)
            kept = self.prefill(tokens=tokens, input_pos=places, **kept)
        for place in range(ahead, len(ids)):
            tokens = np.array([[ids[place]]], np.int32)
            kept = self.decode(tokens=tokens, input_pos=np.array([place], np.int32), **kept)
            rows.append(kept.pop("logits")[0, 0])
        return np.array(rows)


def exported(folder: Path, file: Path, **options) -> Path:
    return mg.export_model(
        folder, file, file.suffix[1:].replace("litertlm", "litert"), **options
    ).path


CASES = {
    "lecture": ("lecture", {}),
    "gpt2": ("gpt2", {}),
    "modern": ("modern", {}),
    "Llama 3's scaling": (
        "modern",
        {
            "rope_scaling": {
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_context_length": 24,
            }
        },
    ),
    "more than one group": ("modern", {"num_heads": 4, "num_kv_heads": 2}),
    **{name: ("modern", switches) for name, switches in SWITCHES.items()},
}


@pytest.mark.parametrize("case", CASES)
def test_the_logits_are_those_of_the_engine(case, tmp_path):
    preset, switches = CASES[case]
    folder = make_folder(tmp_path / "m", preset, "char", **switches)
    device = Device(exported(folder, tmp_path / "m.tflite"))
    ids = np.random.default_rng(1).integers(0, load_folder(folder).model.vocab_size, 48).tolist()
    expected = engine_of(folder).all_logits(ids)
    assert np.abs(expected).max() > 0.5
    for ahead in (0, 16, 39):  # 48 tokens are the whole context
        np.testing.assert_allclose(device.logits(ids, ahead), expected[ahead:], atol=1e-4)


@pytest.mark.parametrize("preset", ["lecture", "gpt2", "modern"])
def test_greedy_tokens_are_those_of_the_engine(preset, tmp_path):
    from minigpt_tf.interop.litert.running import LiteRTRunner

    folder = make_folder(tmp_path / "m", preset, "char", context_length=160)
    runner, engine = LiteRTRunner(exported(folder, tmp_path / "m.tflite")), engine_of(folder)
    assert runner.prefill_lengths == [16, 128]
    for length in (*PROMPT_LENGTHS, 128):
        ids = np.random.default_rng(length).integers(0, 30, length).tolist()
        theirs, ours = list(ids), list(ids)
        for logits in runner.logits(theirs):
            theirs.append(int(logits.argmax()))
            if len(theirs) == length + 32:
                break
        logits = engine.prefill(ours)
        for _ in range(32):
            ours.append(int(logits.argmax()))
            logits = engine.decode_step(ours[-1]) if len(ours) < 160 else logits
        assert theirs == ours


def test_int8_loses_little(trained_folder, tmp_path):
    """Each row of a matrix has 255 steps; the loss over the text changes by less than 1 %."""
    small = exported(trained_folder, tmp_path / "small.tflite", dtype="int8")
    folder = load_folder(trained_folder)
    ids = folder.tokenizer.encode((ROOT / "data/ramanujan.txt").read_text(encoding="utf-8"))
    rows = ids[: 4 * folder.model.context_length].reshape(4, -1).tolist()
    expected = engine_of(trained_folder)

    def loss(logits_of) -> float:
        """Mean cross-entropy of the next token."""
        total = 0.0
        for row in rows:
            logits = logits_of(row)[:-1].astype(np.float64)
            chosen = logits[np.arange(len(row) - 1), row[1:]]
            total += np.mean(np.log(np.exp(logits).sum(axis=-1)) - chosen)
        return total / len(rows)

    assert loss(Device(small).logits) == pytest.approx(loss(expected.all_logits), rel=0.01)


def test_int8_files_are_a_quarter(tmp_path):
    folder = make_folder(tmp_path / "m", "modern", "char", embed_dim=256, ff_dim=512, head_dim=128)
    whole = exported(folder, tmp_path / "whole.tflite").stat().st_size
    small = exported(folder, tmp_path / "small.tflite", dtype="int8").stat().st_size
    assert 4 * load_folder(folder).model.parameter_count < whole
    assert 0.25 * whole < small < 0.3 * whole


def test_int8_rounds_each_row_to_its_own_step():
    from minigpt_tf.interop.litert.matrices import rounded_rows, row_scales

    rows = np.array([[1.27, -0.635, 0.01], [0, 0, 0], [254, 127, 3]], np.float32)
    scales = row_scales(rows)
    np.testing.assert_allclose(scales, [0.01, 1, 2], rtol=1e-6)
    assert rounded_rows(rows, scales).tolist() == [[127, -64, 1], [0, 0, 0], [127, 64, 2]]


def test_a_file_has_room_for_what_was_asked(tmp_path, capsys):
    folder = make_folder(tmp_path / "m", "modern", "char", context_length=2000)
    file = tmp_path / "m.tflite"
    arguments = ["export", "--model", str(folder), "--format", "tflite", "--out", str(file)]
    assert main(arguments) == 0
    assert "note: room for 1024 tokens of the model's 2000: --context-length" in (
        capsys.readouterr().err
    )
    assert Device(file).empty["kv_cache_k_0"].shape == (1, 1, 1024 + 128, 8)
    assert main([*arguments, "--overwrite", "--context-length", "8"]) == 0
    assert "note" not in capsys.readouterr().err
    device = Device(file)
    assert device.empty["kv_cache_v_1"].shape == (1, 1, 8 + 8, 8)
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    expected = engine_of(folder).all_logits(ids)[5:]
    np.testing.assert_allclose(device.logits(ids, 5), expected, atol=1e-4)


def test_memory_stays_flat(tmp_path):
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system has no /proc")
    folder = make_folder(tmp_path / "m", "modern", "char", context_length=600)
    device = Device(exported(folder, tmp_path / "m.tflite"))

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    device.logits([1] * 200)
    before = resident()
    device.logits([1] * 200)
    cache = sum(values.nbytes for values in device.empty.values())
    assert resident() - before < 20 * cache  # 200 copies, were they kept


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_litert_lm_says_what_the_engine_says(kind, tmp_path):
    """Text in, text out: the tokenizer, the ids before a text and what is never said are in it."""
    litert_lm = pytest.importorskip("litert_lm", reason="no LiteRT-LM: litert-lm-api")
    tokenizer = train_tokenizer(kind, [TEXT], {"word": 24, "bpe": 300}.get(kind, 0))
    tokenizer.prefix_ids = (5,) if kind == "bpe" else ()
    more = {"vocab_size": tokenizer.vocab_size + 200} if kind == "word" else {}
    folder = make_folder(tmp_path / "m", "gpt2", tokenizer, context_length=300, **more)
    file, generator = exported(folder, tmp_path / "m.litertlm"), mg.TextGenerator.load(folder)
    for text in ("he was born in", "the numbers", "he sang: " * 22):  # the last in several chunks
        expected = generator.generate(text, greedy=True, max_new_tokens=12).text
        expected = expected.partition("\0")[0].strip()  # where a text of C ends
        assert expected and said_by(litert_lm, file, text, 12).strip() == expected


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '; ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'his: ' }}{% endif %}"
)


def test_litert_lm_chats_with_the_template(tmp_path):
    """Its messages are lists of parts; a special token of the template is a text of the folder."""
    litert_lm = pytest.importorskip("litert_lm", reason="no LiteRT-LM: litert-lm-api")
    chat = {"chat_template": TEMPLATE, "special_tokens": {"bos_token": "born "}}
    folder = make_folder(tmp_path / "m", "modern", "char", context_length=128, **chat)
    file = exported(folder, tmp_path / "m.litertlm")
    talk = mg.TextGenerator.load(folder).conversation(greedy=True, max_new_tokens=9)
    greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
    with (
        litert_lm.Engine(str(file), cache_dir=str(tmp_path)) as engine,
        engine.create_conversation(sampler_config=greedy, max_output_tokens=9) as conversation,
    ):
        answer = conversation.send_message("he sang")
        assert str(answer) and str(answer) == "".join(talk.reply("he sang"))


def said_by(litert_lm, file: Path, text: str, count: int) -> str:
    greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
    backend = litert_lm.Backend.CPU(thread_count=1)
    with (
        litert_lm.Engine(str(file), backend=backend, cache_dir=str(file.parent)) as engine,
        engine.create_session(
            apply_prompt_template=False, sampler_config=greedy, max_output_tokens=count
        ) as session,
    ):
        session.run_prefill([text])
        return session.run_decode().texts[0]


def test_bad_requests_get_one_line(tmp_path, monkeypatch, capsys):
    folder = make_folder(tmp_path / "m", "modern", "char")
    out = tmp_path / "x.tflite"
    for options, message in [
        ({"context_length": 49}, "context_length=49: the model has 48"),
        ({"context_length": 0}, "context_length=0: must be at least 1"),
        ({"dtype": "q8_0"}, "--format tflite has no --dtype q8_0: choose f32, int8"),
        ({"format": "hf", "context_length": 9}, "--format hf has no --context-length"),
    ]:
        with pytest.raises(ConfigError, match=message):
            mg.export_model(folder, out, **{"format": "tflite", **options})
    monkeypatch.setattr("minigpt_tf.interop.litert.flatbuffer.MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"a \.tflite has 2: choose --dtype int8"):
        mg.export_model(folder, out, "tflite")
    for module in ("litert_lm_builder", "ai_edge_litert.schema_py_generated"):
        monkeypatch.setitem(sys.modules, module, None)
        format, file = ("tflite", out) if "edge" in module else ("litert", tmp_path / "x.litertlm")
        with pytest.raises(ConfigError, match=r"pip install 'minigpt_tf\[litert\]'"):
            mg.export_model(folder, file, format)
    assert list(tmp_path.iterdir()) == [folder]


def test_what_litert_lm_cannot_read_is_refused(tmp_path):
    from minigpt_tf import Tokenizer

    tokenizer = Tokenizer()  # drops unknown words, which no table of words does
    tokenizer.fit_on_texts([TEXT])
    folder = make_folder(tmp_path / "m", "lecture", tokenizer)
    with pytest.raises(DataError, match=r"no unknown word.*--format tflite takes any tokenizer"):
        mg.export_model(folder, tmp_path / "x.litertlm", "litert")
    assert exported(folder, tmp_path / "x.tflite").exists()


def test_a_file_that_computes_otherwise_is_not_left_behind(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "m", "modern", "char")
    monkeypatch.setattr("minigpt_tf.interop.litert.graph.MASKED", 0.0)  # it sees what is to come
    with pytest.raises(ModelFolderError, match="self-check failed"):
        mg.export_model(folder, tmp_path / "x.tflite", "tflite")
    assert list(tmp_path.iterdir()) == [folder]
