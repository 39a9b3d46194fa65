"""Clients that others wrote, in front of a real server: npm's openai, LangChain, LlamaIndex, and
what open-webui and n8n send."""

import json
import shutil
import subprocess

import httpx
import pytest

from tests.deploy.servers import server

TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
USER = [{"role": "user", "content": "he was"}]
KEY = "sesame"


@pytest.fixture(scope="module")
def url(trained_folder, tmp_path_factory):
    """A server of a tiny model that has a chat template, with a key."""
    folder = tmp_path_factory.mktemp("models") / "talk"
    shutil.copytree(trained_folder, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    keys = folder.parent / "keys"
    keys.write_text(f"test {KEY}\n")
    words = ("--keys-file", str(keys), "--max-tokens", "8")
    with server(folder, *words) as running:
        yield running.url


@pytest.fixture(scope="module")
def http(url):
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def text(http):
    """The greedy answer, which every client must get."""
    body = {"model": "talk", "messages": USER, "temperature": 0}
    answer = http.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"].strip()
    return answer["choices"][0]["message"]["content"]


NODE = """
import OpenAI from "openai";
const [url, key, messages] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const asked = { model: "talk", messages, temperature: 0 };
const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
const plain = await client.chat.completions.create(asked);
let streamed = "";
const stream = await client.chat.completions.create({
  ...asked, stream: true, stream_options: { include_usage: true },
});
let usage = null;
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
const again = await client.chat.completions.create({ ...asked, stream: true });
const reader = again.toReadableStream().getReader();
let lines = 0;
while (!(await reader.read()).done) lines += 1;
const aborted = await client.chat.completions.create({ ...asked, stream: true, max_tokens: 8 });
let error = null;
try {
  for await (const chunk of aborted) aborted.controller.abort();
} catch (caught) { error = caught.name; }
let status = null;
try {
  await client.chat.completions.create({ ...asked, model: "none" });
} catch (caught) { status = [caught.constructor.name, caught.status, caught.code]; }
const text = plain.choices[0].message.content;
console.log(JSON.stringify({ ids, text, streamed, usage, lines, error, status }));
"""


def test_npm_openai(url, text, tmp_path):
    npm, node = shutil.which("npm"), shutil.which("node")
    if not (npm and node):
        pytest.skip("node is not installed")
    install = [npm, "install", "--no-audit", "--no-fund", "--silent", "openai"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("no npm registry")
    (tmp_path / "client.mjs").write_text(NODE)
    command = [node, "client.mjs", url, KEY, json.dumps(USER)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["ids"] == ["talk"] and got["text"] == got["streamed"] == text
    assert got["usage"]["completion_tokens"] == 8 and got["lines"] > 2 and got["error"] is None
    assert got["status"] == ["NotFoundError", 404, "model_not_found"]


def test_langchain(url, text):
    chat_models = pytest.importorskip(
        "langchain_openai", reason="langchain-openai is not installed"
    )
    model = chat_models.ChatOpenAI(
        base_url=f"{url}/v1", api_key=KEY, model="talk", temperature=0, stream_usage=True
    )
    answer = model.invoke("he was")
    assert answer.content == text and answer.usage_metadata["output_tokens"] == 8
    chunks = list(model.stream("he was"))
    assert "".join(chunk.content for chunk in chunks) == text
    assert sum((c.usage_metadata or {}).get("output_tokens", 0) for c in chunks) == 8
    assert [answer.content for answer in model.batch(["he was"] * 8)] == [text] * 8


def test_llama_index(url, text):
    like = pytest.importorskip(
        "llama_index.llms.openai_like", reason="llama-index-llms-openai-like is not installed"
    )
    from llama_index.core.llms import ChatMessage

    model = like.OpenAILike(
        model="talk",
        api_base=f"{url}/v1",
        api_key=KEY,
        is_chat_model=True,
        context_window=16,
        temperature=0,
        max_tokens=8,
    )
    asked = [ChatMessage(role="user", content="he was")]
    assert model.chat(asked).message.content == text
    assert "".join(chunk.delta or "" for chunk in model.stream_chat(asked)) == text
    assert model.complete("he was").text == text


def test_what_open_webui_sends(http, text):
    """Its list of models, a chat with cache marks and an effort, and a request for a title."""
    listed = http.get("/v1/models")
    assert [model["id"] for model in listed.json()["data"]] == ["talk"]
    parts = [{"type": "text", "text": "he was", "cache_control": {"type": "ephemeral"}}]
    body = {
        "model": "talk",
        "messages": [{"role": "user", "content": parts}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "reasoning": {"effort": "low"},
    }
    title = {"model": "talk", "messages": USER, "stream": False, "max_completion_tokens": 4}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert http.post("/v1/chat/completions", json=title).status_code == 200
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    deltas = [c["delta"].get("content") or "" for event in events for c in event["choices"]]
    assert "".join(deltas) == text and events[-1]["usage"]["completion_tokens"] == 8
    wrong = http.post("/v1/chat/completions", json={**body, "model": "none"})
    assert wrong.headers["content-type"] == "application/json" and wrong.status_code == 404


def test_what_n8n_sends(http, text):
    """Its HTTP node: no `stream`, and an Accept header as of a browser."""
    headers = {"Accept": "application/json,text/html,application/xhtml+xml,application/xml,*/*"}
    body = {"model": "talk", "messages": USER, "temperature": 0}
    answer = http.post("/v1/chat/completions", json=body, headers=headers).json()
    assert answer["choices"][0]["message"] == {
        **answer["choices"][0]["message"],
        "role": "assistant",
        "content": text,
    }


def test_a_wrong_key_is_refused_to_all(url):
    headers = {"Authorization": "Bearer wrong"}
    answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": USER}, headers=headers)
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(url).status_code == 200
