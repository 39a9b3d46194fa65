// What is going on: the chat that is shown, the models, and the answers that are being generated.

import { ApiError, generate, listModels } from "./api.js";
import { asMessages, loadChat, newChat, removeChat, saveChat, shownVersion } from "./store.js";

const LAST = "minigpt.last";
const SAVE_EVERY = 1000; // milliseconds, while an answer grows

export const session = { chat: newChat(), models: [] };

const open = new Map(); // id -> chat: one object a chat, also while another is shown
const running = new Map(); // id -> what aborts its answer
const listeners = { chat: [], growth: [], list: [], notice: [] };

/** Calls back on "chat" (shown anew), "growth" (of its last answer), "list" or "notice". */
export const on = (event, callback) => listeners[event].push(callback);
const emit = (event, ...values) => listeners[event].forEach((callback) => callback(...values));

export const isRunning = (chat = session.chat) => running.has(chat.id);
export const modelOf = (chat = session.chat) => session.models.find((model) => model.id === chat.model);

/** What this project's server says about a model; other servers say nothing. */
export const factsOf = (model) => model?.facts ?? {};
export const canChat = (model) => factsOf(model).kind !== "text";

/** Reads the list of models; classifiers write no text. */
export async function loadModels() {
  session.models = (await listModels()).filter((model) => factsOf(model).kind !== "classifier");
  if (!session.models.length) throw new ApiError("The server has no model that writes text.");
  emit("chat");
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(LAST)) ?? {};
  } catch {
    return {};
  }
}

function remember({ model, mode, system, settings }) {
  try {
    localStorage.setItem(LAST, JSON.stringify({ model, mode, system, settings }));
  } catch {
    // the storage is full, which is reported when a chat is saved
  }
}

/** Shows the chat of an id, or a new one with the settings used last. */
export function show(id) {
  const chat = (id && (open.get(id) ?? loadChat(id))) || Object.assign(newChat(), remembered());
  open.set(chat.id, chat);
  session.chat = chat;
  emit("chat");
  return chat;
}

/** Forgets a chat, and ends its answer. */
export function forget(id) {
  running.get(id)?.abort();
  open.delete(id);
  removeChat(id);
  emit("list");
}

/** Another tab has changed a chat. */
export function reload(id) {
  if (id && !running.has(id)) open.delete(id);
  emit("list");
  if (id === session.chat.id && !running.has(id) && loadChat(id)) show(id);
}

/** Keeps a chat after something in it was changed. */
export function keep(chat = session.chat) {
  remember(chat);
  if (!saveChat(chat)) emit("notice", "The browser's storage is full: export chats and delete some.");
}

/** Changes the model, the mode, the system text or the settings of the chat. */
export function change(values) {
  Object.assign(session.chat, values);
  keep();
  emit("chat");
}

/** The mode that a chat's model allows. */
export const modeOf = (chat = session.chat) => (canChat(modelOf(chat)) ? chat.mode : "continue");

export function stop() {
  running.get(session.chat.id)?.abort();
}

/** Adds a question and generates its answer. */
export function send(text) {
  const chat = session.chat;
  chat.messages.push({ role: "user", content: text });
  return answer(chat, chat.messages.length);
}

/** Another answer of a turn; the turns below it go. */
export function regenerate(index) {
  return answer(session.chat, index);
}

/** Asks something else in place of a question; what was below it goes. */
export function edit(index, text) {
  session.chat.messages.length = index;
  return send(text);
}

/** Rates the answer that is shown: 1, -1, or 0 again. */
export function rate(index, rating) {
  const version = shownVersion(session.chat.messages[index]);
  version.rating = version.rating === rating ? 0 : rating;
  keep();
  emit("chat");
}

/** Shows another answer of a turn. */
export function showVersion(index, shown) {
  session.chat.messages[index].shown = shown;
  keep();
  emit("chat");
}

async function answer(chat, index) {
  if (isRunning(chat)) return;
  chat.messages.length = Math.min(chat.messages.length, index + 1);
  const message = (chat.messages[index] ??= { role: "assistant", versions: [], shown: 0 });
  message.versions = message.versions.filter((version) => version.content);
  const version = { content: "", model: chat.model, notices: [], rating: 0 };
  message.versions.push(version);
  message.shown = message.versions.length - 1;
  const body = { messages: asMessages(chat, index) };
  await run(chat, "chat/completions", body, version, (text) => {
    version.content += text;
  });
}

/** Lets the model continue the text. */
export async function continueText() {
  const chat = session.chat;
  if (isRunning(chat)) return;
  const began = chat.text.length;
  const mark = [began, began];
  chat.marks.push(mark);
  const result = { notices: [] };
  chat.result = result;
  await run(chat, "completions", { prompt: chat.text }, result, (text) => {
    chat.text += text;
    mark[1] = chat.text.length;
  });
  if (mark[1] === began) chat.marks.pop();
  keep(chat);
  emit("chat");
}

/** Takes the last continuation back. Returns whether there was one. */
export function takeBack() {
  const mark = session.chat.marks.pop();
  if (!mark) return false;
  session.chat.text = session.chat.text.slice(0, mark[0]);
  session.chat.result = null;
  keep();
  emit("chat");
  return true;
}

/** Runs a request; `result` gets finish, stats, notices and error as they come. */
async function run(chat, path, body, result, grow) {
  const controller = new AbortController();
  running.set(chat.id, controller);
  chat.updated = Date.now();
  keep(chat);
  emit("chat");
  emit("list");
  const began = performance.now();
  let first = 0;
  let saved = began;
  let usage = null;
  try {
    const asked = { model: chat.model, ...body, ...chat.settings };
    // What does not fit is left out, and a notice says so: a context may have a hundred tokens.
    if (factsOf(modelOf(chat)).kind) asked.truncate = true;
    for await (const part of generate(path, asked, controller.signal)) {
      if (part.notices) result.notices = [...new Set([...result.notices, ...part.notices])];
      if (part.finish) result.finish = part.finish;
      if (part.usage) usage = part.usage;
      if (!part.text) continue;
      const now = performance.now();
      first ||= now;
      grow(part.text);
      if (now - saved > SAVE_EVERY) {
        saveChat(chat);
        saved = now;
      }
      emit("growth", chat);
    }
  } catch (error) {
    if (error.name === "AbortError") result.finish = "stopped";
    else result.error = error.message;
  }
  const now = performance.now();
  const seconds = first ? (now - first) / 1000 : 0;
  result.stats = { first: first ? (first - began) / 1000 : null, seconds };
  if (usage) {
    const { prompt_tokens: prompt, completion_tokens: tokens } = usage;
    const reused = usage.prompt_tokens_details?.cached_tokens ?? 0;
    Object.assign(result.stats, { prompt, tokens, reused, rate: seconds && tokens > 1 ? (tokens - 1) / seconds : null });
  }
  running.delete(chat.id);
  chat.updated = Date.now();
  if (open.has(chat.id)) keep(chat); // else it was deleted meanwhile
  emit("chat", chat);
  emit("list");
}

addEventListener("pagehide", () => open.forEach((chat, id) => running.has(id) && saveChat(chat)));
