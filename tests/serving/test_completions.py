"""POST /v1/completions, /tokenize and /detokenize: texts, token ids, echo, scores of a prompt."""

import numpy as np
import pytest

from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.metrics import log_softmax

PROMPT = "ramanujan was a genius"


@pytest.fixture(scope="module")
def generator(models):
    return TextGenerator.load(models / "talk")


@pytest.fixture(scope="module")
def words(models):
    return TextGenerator.load(models / "words")


@pytest.mark.parametrize("model", ["talk", "words"])
def test_a_text_is_continued_as_on_the_command_line(server, generator, words, model):
    home = {"talk": generator, "words": words}[model]
    wanted = home.generate(PROMPT, greedy=True, max_new_tokens=12)
    answer = server.complete(PROMPT, model=model, temperature=0, max_tokens=12)
    (choice,) = answer["choices"]
    assert choice["text"] == wanted.text and choice["logprobs"] is None
    assert answer["usage"]["prompt_tokens"] == len(wanted.prompt.ids)
    body = {"model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": 12}
    events = server.stream("/v1/completions", **body)
    assert "".join(event["choices"][0]["text"] for event in events) == wanted.text
    assert [event["choices"][0]["finish_reason"] for event in events].count("length") == 1


def test_texts_and_token_ids_alone_and_in_lists(server, generator):
    texts = [PROMPT, "who is Hardy", "he"]
    ids = [generator.tokenizer.encode(text).tolist() for text in texts]
    settings = {"temperature": 0, "max_tokens": 6}
    alone = [server.complete(text, **settings)["choices"][0]["text"] for text in texts]
    for prompts in (texts, ids):
        answer = server.complete(prompts, **settings)
        assert [choice["text"] for choice in answer["choices"]] == alone
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert server.complete(ids[0], **settings)["choices"][0]["text"] == alone[0]
    two = server.complete(texts[:2], n=2, seed=1, temperature=1.2, max_tokens=6)["choices"]
    one = server.complete(texts[1], seed=2, temperature=1.2, max_tokens=6)["choices"][0]["text"]
    assert [choice["index"] for choice in two] == [0, 1, 2, 3] and two[3]["text"] == one


def test_the_empty_prompt_begins_as_the_model_s_texts_do(server, words):
    wanted = words.generate("", greedy=True, max_new_tokens=5)
    settings = {"model": "words", "temperature": 0, "max_tokens": 5}
    for prompt in ("", None):
        found = server.post("/v1/completions", prompt=prompt, **settings).json()
        assert found["choices"][0]["text"] == wanted.text and found["usage"]["prompt_tokens"] == 0
    found = server.post("/v1/completions", prompt="!!!", **settings)
    assert found.json()["choices"][0]["text"] == wanted.text
    assert "knows nothing of the prompt" in found.headers["x-notice"]


def test_echo_with_log_probabilities_gives_those_of_the_prompt(server, generator):
    ids = generator.tokenizer.encode(PROMPT).tolist()
    logprobs = log_softmax(generator.engine.all_logits(ids).astype(np.float64))
    wanted = [logprobs[place - 1, ids[place]] for place in range(1, len(ids))]
    for prompt in (PROMPT, ids):
        answer = server.complete(prompt, echo=True, logprobs=2, max_tokens=0)
        (choice,) = answer["choices"]
        assert choice["text"] == PROMPT and answer["usage"]["completion_tokens"] == 0
        found = choice["logprobs"]
        assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
        assert found["token_logprobs"][1:] == pytest.approx(wanted, abs=1e-5)
        assert "".join(found["tokens"]) == PROMPT
        starts = [0, *np.cumsum([len(token) for token in found["tokens"]])[:-1].tolist()]
        assert found["text_offset"] == starts
        for place, top in enumerate(found["top_logprobs"][1:]):
            best = np.sort(logprobs[place])[::-1][:2]
            assert sorted(top.values(), reverse=True) == pytest.approx(best.tolist(), abs=1e-5)


def test_echo_with_an_answer(server):
    settings = {"temperature": 0, "max_tokens": 4}
    plain = server.complete(PROMPT, logprobs=0, **settings)["choices"][0]
    echoed = server.complete(PROMPT, echo=True, logprobs=0, **settings)["choices"][0]
    assert echoed["text"] == PROMPT + plain["text"]
    count = len(plain["logprobs"]["tokens"])
    assert count == 4 and plain["logprobs"]["top_logprobs"] is None
    for name in ("tokens", "token_logprobs"):
        assert echoed["logprobs"][name][-count:] == plain["logprobs"][name]
    assert server.complete(PROMPT, echo=True, **settings)["choices"][0]["logprobs"] is None
    body = {"model": "talk", "prompt": PROMPT, "echo": True, "logprobs": 0, **settings}
    events = server.stream("/v1/completions", **body)
    assert "".join(event["choices"][0]["text"] for event in events) == echoed["text"]
    found = [event["choices"][0]["logprobs"] for event in events]
    for name in ("tokens", "token_logprobs"):
        assert [item for logs in found if logs for item in logs[name]] == echoed["logprobs"][name]


def test_a_model_of_words_has_log_probabilities_too(server):
    choice = server.complete("who is hardy", model="words", echo=True, logprobs=1, max_tokens=3)
    choice = choice["choices"][0]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert len(choice["logprobs"]["token_logprobs"]) >= 4


def test_what_is_wrong_is_named(server):
    def error(**body):
        settings = {"model": "talk", "prompt": "a", **body}
        return server.refused(400, "/v1/completions", **settings)

    assert error(prompt=[10**6])["param"] == "prompt"
    assert error(prompt=[-1])["param"] == "prompt"
    assert error(prompt=[[1], "a"])["param"] == "prompt"
    assert error(prompt=[])["param"] == "prompt"
    assert error(prompt={"a": 1})["param"] == "prompt"
    assert error(prompt=["a"] * 300)["param"] == "prompt"
    assert error(logprobs=21)["param"] == "logprobs"
    assert error(suffix="b")["code"] == error(best_of=3)["code"] == "unsupported_parameter"
    long = error(prompt="a " * 400)
    assert long["code"] == "context_length_exceeded" and long["param"] == "prompt"
    body = {"model": "talk", "prompt": "a " * 400, "truncate": True, "max_tokens": 2}
    found = server.post("/v1/completions", **body)
    assert found.json()["usage"]["prompt_tokens"] == 254 and "dropped" in found.headers["x-notice"]
    assert "room for" in error(prompt=["a"] * 200, max_tokens=1)["message"]
    assert server.idle()


def test_tokenize_and_detokenize(server, generator):
    ids = generator.tokenizer.encode(PROMPT).tolist()
    found = server.post("/tokenize", model="talk", prompt=PROMPT, return_token_strs=True).json()
    assert found["tokens"] == ids and found["count"] == len(ids) and found["max_model_len"] == 256
    assert "".join(found["token_strs"]) == PROMPT
    assert server.post("/detokenize", model="talk", tokens=ids).json() == {"prompt": PROMPT}
    messages = [{"role": "user", "content": "hi"}]
    found = server.post("/tokenize", model="talk", messages=messages).json()
    assert found["tokens"] == generator.prepare_chat(messages).ids
    shown = server.post("/tokenize", model="talk", messages=messages, add_generation_prompt=False)
    assert shown.json()["tokens"] == found["tokens"][: shown.json()["count"]]
    assert server.refused(400, "/tokenize", model="talk")["param"] == "prompt"
    assert server.refused(400, "/detokenize", model="talk", tokens=[999])["param"] == "tokens"
