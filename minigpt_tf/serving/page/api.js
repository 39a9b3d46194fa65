// The server's API: requests with a key, errors as sentences, streams as events.

import { byId } from "./dom.js";

const BASE = new URL("v1/", document.baseURI);
const KEY = "minigpt.key";

/** What the server, or the network, said. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

let key = sessionStorage.getItem(KEY) || "";
let asking = null;

byId("key-cancel").addEventListener("click", () => byId("key-dialog").close("cancel"));

/** Asks for a key, once for all requests that wait for one. */
function askForKey(refused) {
  asking ??= new Promise((resolve, reject) => {
    const dialog = byId("key-dialog");
    const field = byId("key");
    if (refused) byId("key-reason").textContent = "The server does not accept that key.";
    field.value = "";
    dialog.returnValue = "cancel";
    dialog.showModal();
    field.focus();
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        if (dialog.returnValue !== "use") return reject(new ApiError("This server needs an API key.", 401));
        key = field.value.trim();
        sessionStorage.setItem(KEY, key);
        resolve();
      },
      { once: true },
    );
  });
  return asking;
}

/** The sentence in an error's body, which servers nest differently. */
async function sentence(response) {
  const text = await response.text().catch(() => "");
  try {
    const body = JSON.parse(text);
    const found = body.error?.message ?? body.error ?? body.message ?? body.detail;
    if (typeof found === "string") return found;
  } catch {
    // not JSON: a proxy's page, or nothing
  }
  return `The server answered ${response.status} ${response.statusText}`.trim() + ".";
}

async function request(path, body, signal) {
  for (;;) {
    const used = key;
    const headers = { Accept: "application/json, text/event-stream" };
    if (used) headers.Authorization = `Bearer ${used}`;
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(new URL(path, BASE), {
        method: body ? "POST" : "GET",
        headers,
        body: body && JSON.stringify(body),
        signal,
        cache: "no-store",
        credentials: "omit",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server does not answer. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw new ApiError(await sentence(response), response.status);
    if (used === key) await askForKey(used !== "");
  }
}

/** The models: id, and what `minigpt serve` says about each as `facts`; other servers say nothing. */
export async function listModels() {
  const [listed, facts] = await Promise.all([request("models").then((answer) => answer.json()), factsByName()]);
  return (listed.data ?? []).map(({ id }) => ({ id, facts: facts.get(id) ?? {} }));
}

async function factsByName() {
  try {
    const info = await (await request("../info")).json();
    const facts = new Map(info.models.map((model) => [model.id, model]));
    facts.forEach((model) => (model.defaults = { max_tokens: info.max_tokens, ...model.defaults }));
    for (const [alias, name] of Object.entries(info.aliases)) facts.set(alias, facts.get(name));
    return facts;
  } catch (error) {
    if (error.status === 401) throw error;
    return new Map();
  }
}

/** The `data` of each event of a stream, as it arrives. */
async function* dataOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split(/\r\n|\n|\r(?!$)/);
      rest = done ? "" : lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Sends a prompt and yields what comes: {text} pieces, then {finish}, {usage}, {notices}.
 * Aborting the signal closes the connection, on which the server stops computing.
 */
export async function* generate(path, body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await request(path, asked, signal);
  const notice = response.headers.get("X-Notice");
  if (notice) yield { notices: [unescaped(notice)] };
  if (!(response.headers.get("Content-Type") ?? "").includes("event-stream")) {
    yield* partsOf(await response.json());
    return;
  }
  let ended = false;
  try {
    for await (const data of dataOf(response.body)) {
      if (data === "[DONE]") return;
      for (const part of partsOf(JSON.parse(data))) {
        ended ||= "finish" in part;
        yield part;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("The connection broke off in the middle of the answer.");
  }
  if (!ended) throw new ApiError("The server ended the answer early.");
}

/** A header's text, in which characters outside of ASCII are written as Python writes them. */
function unescaped(text) {
  const code = /\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))/g;
  return text.replace(code, (all, two, four, eight) => String.fromCodePoint(parseInt(two ?? four ?? eight, 16)));
}

function* partsOf(answer) {
  if (answer.error) throw new ApiError(answer.error.message ?? String(answer.error));
  const choice = answer.choices?.[0];
  const text = choice?.delta?.content ?? choice?.message?.content ?? choice?.text;
  if (text) yield { text };
  if (choice?.finish_reason) yield { finish: choice.finish_reason };
  const record = answer.records?.[0]; // of a server that answers from records
  if (record) yield { notices: [`${record.source}: ${record.text}`] };
  if (answer.usage) yield { usage: answer.usage };
}
