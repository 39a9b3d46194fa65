# ruff: noqa: F811  (fixtures of another file)
"""POST /v1/classify: the labels that `minigpt classify` gives."""

import pytest

from minigpt_tf.classification.classifier import Classifier
from minigpt_tf.finetuning.trainer import finetune
from minigpt_tf.serving.routes import classify
from tests.finetuning.test_classifier import files, plan_of  # noqa: F401
from tests.serving.conftest import serving, wait_for


@pytest.fixture(scope="module")
def sorter(files):
    finetune(plan_of(files, "last", steps=4, eval_every=4, learning_rate=0.02), files / "sorter")
    return files / "sorter"


def test_labels_are_those_of_the_command_line(sorter, models, monkeypatch):
    monkeypatch.setattr(classify, "TURN", 2)  # several turns a text
    classifier = Classifier.load(sorter)
    texts = ["this is a saw", "one more pear", "a" * 999]
    with serving(sorter, models / "talk", slots=1) as server:
        found = server.post("/v1/classify", model="sorter", input=texts)
        assert found.status_code == 200, found.text
        for item, text in zip(found.json()["data"], texts, strict=True):
            guess = classifier.classify(text)
            assert item["label"] == guess.label and item["dropped_tokens"] == guess.dropped
            assert item["probabilities"] == pytest.approx(guess.probabilities, abs=1e-6)
        one = server.post("/v1/classify", model="sorter", input=texts[0]).json()["data"]
        assert one == found.json()["data"][:1]
        error = server.refused(400, "/v1/classify", model="talk", input="a")
        assert "not a classifier" in error["message"]
        error = server.refused(400, "/v1/classify", model="sorter", input=[[1, 2]])
        assert error["param"] == "input"
        error = server.refused(400, "/v1/classify", model="sorter", input="")
        assert "at least one character" in error["message"]
        error = server.refused(400, "/v1/chat/completions", model="sorter")
        assert "/v1/classify" in error["message"]
        info = server.client.get("/info").json()["models"][0]
        assert info["kind"] == "classifier" and info["labels"] == list(classifier.head.labels)
        wait_for(server.idle)
