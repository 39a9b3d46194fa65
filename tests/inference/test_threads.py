"""Any thread, any process: the results are those of one thread, and a forked process goes on."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minigpt_tf.classification.classifier import Classifier
from minigpt_tf.classification.head import Head
from minigpt_tf.config import EngineConfig, RecordsConfig, SamplingConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference.engine import CHUNK, Engine
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.inference.weights import weight_shapes
from minigpt_tf.records.prompts import Template
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import ROOT, SAMPLE, tiny_config

TEXTS = [SAMPLE.read_text()[place : place + 9 + place % 37] for place in range(0, 1500, 29)]


def in_threads(work, items):
    """Results of 8 threads that begin together."""
    threads = min(8, len(items))
    ready = threading.Barrier(threads)
    with ThreadPoolExecutor(threads, initializer=ready.wait) as pool:
        return list(pool.map(work, items))


def make_engine(config, seed=0):
    random = np.random.default_rng(seed)
    weights = {n: random.normal(0, 0.3, s).astype("f4") for n, s in weight_shapes(config).items()}
    return Engine(config, weights, threads=2)


@pytest.fixture(scope="module")
def generator():
    tokenizer = train_tokenizer("char", [SAMPLE.read_text()], 100)
    config = tiny_config("modern", vocab_size=tokenizer.vocab_size, context_length=CHUNK + 40)
    return TextGenerator(make_engine(config), tokenizer, [0])


def test_the_methods_of_an_engine(generator):
    engine, tokenizer = generator.engine, generator.tokenizer
    long = tokenizer.encode(SAMPLE.read_text())[: CHUNK + 30]
    ids = [tokenizer.encode(text) for text in TEXTS] + [long] * 4

    def continued(each):
        first = engine.prefill(each)
        return np.concatenate([first, engine.decode_step(3), engine.resume([*each, 3, 4])])

    methods = [
        engine.hidden,
        engine.all_logits,
        continued,
        lambda each: np.concatenate(list(engine.logits_in_chunks(each, 5))),
        lambda each: np.concatenate(list(engine.logits_in_chunks(each))),
    ]
    for method in methods:
        serial = list(map(method, ids))
        for one, other in zip(serial, in_threads(method, ids), strict=True):
            np.testing.assert_array_equal(one, other)
    one, other = engine.logits_in_chunks(ids[0]), engine.logits_in_chunks(ids[1])
    np.testing.assert_array_equal(next(one), engine.all_logits(ids[0]))  # each has its own
    np.testing.assert_array_equal(next(other), engine.all_logits(ids[1]))
    np.testing.assert_allclose(
        engine.hidden(long) @ engine.weights.rows(0, np.arange(engine.config.vocab_size))[:, :16].T,
        engine.all_logits(long)[-1],
        atol=1e-4,
    )  # the tied head


def test_the_sequence_of_another_thread_is_not_continued(generator):
    engine = make_engine(generator.engine.config)
    assert engine.decode_step(1).shape == (engine.config.vocab_size,)  # as the first token
    engine.prefill([1, 2, 3])
    with pytest.raises(ConfigError, match="was begun in another thread"):
        in_threads(engine.decode_step, [4])
    assert engine.position == 3


def test_a_classifier(generator):
    config = generator.engine.config
    random = np.random.default_rng(1)
    kernel = random.normal(size=(config.embed_dim, 3)).astype("f4")
    template = Template(generator.tokenizer, None, None)
    head = Head(kernel, np.zeros(3, "f4"), ["a", "b", "c"])
    classifier = Classifier(generator.engine, head, template, 30, RecordsConfig())
    serial = list(map(classifier.classify, TEXTS * 5))
    assert serial == in_threads(classifier.classify, TEXTS * 5)
    assert len({guess.label for guess in serial}) > 1


def test_texts_and_streams_and_conversations(generator):
    settings = {"max_new_tokens": 12, "seed": 3, "temperature": 0.9}

    def stream(text):
        return "".join(generator.stream(text, **settings))

    def talk(text):
        conversation = generator.conversation(**settings)
        return ["".join(conversation.reply(part)) for part in (text, text[::-1])]

    for work in (stream, talk, lambda text: generator.generate(text, **settings).ids):
        assert list(map(work, TEXTS)) == in_threads(work, TEXTS)


def test_one_conversation_of_several_threads_answers_one_after_the_other(generator):
    conversation = generator.conversation(max_new_tokens=5, seed=1)
    answers = in_threads(lambda text: "".join(conversation.reply(text)), ["who", "why", "how"] * 4)
    assert len(answers) == 12 and all(answers)
    text = generator.tokenizer.decode(conversation.ids)
    assert sum(word in text for word in ("who", "why", "how")) >= 2
    first = conversation.reply("and")
    next(first)
    with pytest.raises(ConfigError, match="the answer before is unfinished"):
        next(conversation.reply("so"))
    first.close()
    assert "".join(conversation.reply("so"))


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_tokenizers(kind):
    text = SAMPLE.read_text()
    tokenizer = train_tokenizer(kind, [text], 400)
    fresh = train_tokenizer(kind, [text], 400)  # nothing is prepared by a first call
    work = [text[place : place + 400] for place in range(0, len(text), 97)]
    threaded = in_threads(lambda each: fresh.decode(fresh.encode(each)), work)
    assert threaded == [tokenizer.decode(tokenizer.encode(each)) for each in work]


def in_child(work):
    """What `work` returns in a forked process, as text; it has 30 seconds."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.write(write, str(work()).encode())
        os._exit(0)
    os.close(write)
    end = time.monotonic() + 30
    while not (done := os.waitpid(process, os.WNOHANG)[0]) and time.monotonic() < end:
        time.sleep(0.001)
    if not done:
        os.kill(process, 9)
        os.waitpid(process, 0)
    result = os.read(read, 2**16).decode()
    os.close(read)
    return result if done else "it hangs"


def test_a_process_that_is_forked_while_threads_generate(generator):
    settings = SamplingConfig(max_new_tokens=8, seed=5)
    conversation = generator.conversation(settings)
    ids = generator.tokenizer.encode(TEXTS[0])

    def work():
        generator.engine.prefill(ids)
        state = generator.engine.hidden(ids).tobytes().hex()
        return generator.generate(TEXTS[1], settings).text, state, generator.engine.decode_step(2)

    expected, ended = str(work()), threading.Event()

    def busy():
        while not ended.is_set():
            generator.engine.hidden(ids)
            "".join(generator.stream(TEXTS[2], settings))

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(12):
            assert in_child(work) == expected
            assert in_child(lambda: bool("".join(conversation.reply("who")))) == "True"
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert str(work()) == expected


def _loaded(folder):
    config = EngineConfig(threads=2)
    return TextGenerator.load(folder, config).generate("he was", max_new_tokens=5, seed=1).text


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing(trained_folder, method):
    expected = _loaded(trained_folder)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_loaded, [trained_folder] * 4) == [expected] * 4


FIRST_USE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import minigpt_tf as mg
names = [name for name in mg.__all__ if name not in sys.argv[1:]]
ready = threading.Barrier(8)
with ThreadPoolExecutor(8, initializer=ready.wait) as pool:
    found = list(pool.map(lambda name: getattr(mg, name), names * 4))
for name, thing in zip(names * 4, found):
    assert thing is getattr(mg, name), name
print(len(names))
"""


def test_public_names_on_first_use_in_threads():
    command = [sys.executable, "-c", FIRST_USE]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 40
