// Computes beside the page, so that the page stays alive.
import { File, Tokens, generate } from "./model.js";

let file = null, tokens = null, stopped = false;

async function load() {
  const answer = await fetch("model.bin");
  if (!answer.ok) throw new Error(`model.bin: ${answer.status} ${answer.statusText}`);
  const size = Number(answer.headers.get("Content-Length")), parts = [], reader = answer.body.getReader();
  let read = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    read += value.length;
    postMessage({ kind: "loading", read, size });
  }
  const content = new Uint8Array(read);
  parts.reduce((at, part) => (content.set(part, at), at + part.length), 0);
  file = new File(content.buffer);
  tokens = new Tokens(file);
  postMessage({ kind: "ready", chat: file.places.has("chat_before"), joint: tokens.kind === "word" ? " " : "", context: file.number("context_length") });
}

async function answer({ text, ...options }) {
  const ids = [], began = performance.now();
  stopped = false;
  for (const id of generate(file, tokens, text, options)) {
    ids.push(id);
    postMessage({ kind: "text", text: tokens.decode(ids), ids });
    await new Promise((done) => setTimeout(done)); // a message to stop may come in
    if (stopped) break;
  }
  postMessage({ kind: "done", tokens: ids.length, seconds: (performance.now() - began) / 1000 });
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === "load") await load();
    if (data.kind === "ask") await answer(data);
    if (data.kind === "stop") stopped = true;
  } catch (error) {
    postMessage({ kind: "error", text: error.message });
  }
};
