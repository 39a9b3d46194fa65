"""The API does what its description says: schemathesis, with all of its checks."""

import os
import subprocess
import sys

import pytest

from minigpt_tf.serving.requests.bodies import ChatRequest
from minigpt_tf.serving.requests.fields import support_of
from tests.conftest import ROOT
from tests.serving.conftest import wait_for


def test_schemathesis_finds_nothing(server, tmp_path):
    """A short run; `--max-examples 500` is the long one."""
    pytest.importorskip("schemathesis")
    command = [sys.executable, "-m", "schemathesis.cli"]
    command += ["--config-file", str(ROOT / "tests" / "serving" / "schemathesis.toml")]
    command += ["run", f"{server.url}/openapi.json", "--checks", "all", "--max-examples", "8"]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--seed", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    wait_for(server.idle)


def test_the_description_names_the_models_and_has_no_validation_errors_of_others(server):
    found = server.client.get("/openapi.json").json()
    model = found["components"]["schemas"]["ChatRequest"]["properties"]["model"]
    assert model["enum"] == ["talk", "gpt-4o"]
    for path, methods in found["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorObject"}, path


def test_every_field_says_whether_it_is_supported():
    kinds = {name: kind for name, kind, _ in support_of(ChatRequest)}
    assert kinds["messages"] == kinds["max_tokens"] == "supported"
    assert kinds["min_p"] == "extension" and kinds["user"] == "without effect"
    assert kinds["tools"] == "refused" and len(kinds) > 30
