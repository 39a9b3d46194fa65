// Chats in the browser's localStorage, each under a key of its own, so that two tabs do not
// overwrite each other's.

const PREFIX = "minigpt.chat.";

/** A chat with nothing in it. */
export function newChat(model = "", mode = "chat") {
  const now = Date.now();
  const id = crypto.getRandomValues(new Uint32Array(2)).reduce((text, n) => text + n.toString(36), "");
  return {
    id, created: now, updated: now, model, mode,
    system: "", settings: {}, messages: [], text: "", marks: [],
  };
}

/** Whether a chat has anything worth keeping. */
export const isEmpty = (chat) => !chat.messages.length && !chat.text.trim();

/** What is shown of a chat in the list. */
export function titleOf(chat) {
  const [asked, written] = [chat.messages[0]?.content, chat.text];
  const first = (chat.mode === "continue" ? written || asked : asked || written) || "";
  const line = first.trim().split("\n", 1)[0];
  return line.length > 60 ? `${line.slice(0, 59)}…` : line || "New chat";
}

/** The answer of a turn that is shown; a turn keeps all that were generated. */
export const shownVersion = (message) => message.versions[message.shown];

function isChat(value) {
  return value && typeof value.id === "string" && Array.isArray(value.messages) && typeof value.text === "string";
}

export function loadChat(id) {
  try {
    const chat = JSON.parse(localStorage.getItem(PREFIX + id));
    return isChat(chat) ? chat : null;
  } catch {
    return null;
  }
}

/** Writes a chat. Returns false where the browser's storage is full. */
export function saveChat(chat) {
  if (isEmpty(chat)) return true;
  try {
    localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
    return true;
  } catch {
    return false;
  }
}

export function removeChat(id) {
  localStorage.removeItem(PREFIX + id);
}

/** All chats, the latest first. */
export function allChats() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  const chats = keys.map((key) => loadChat(key.slice(PREFIX.length))).filter(Boolean);
  return chats.sort((one, other) => other.updated - one.updated);
}

/** Calls back when another tab changes a chat. */
export function onForeignChange(callback) {
  addEventListener("storage", (event) => {
    if (event.key === null || event.key.startsWith(PREFIX)) callback(event.key?.slice(PREFIX.length));
  });
}

/** The messages of the API: what came before a turn, in the versions that are shown. */
export function asMessages(chat, end = chat.messages.length) {
  const messages = chat.system.trim() ? [{ role: "system", content: chat.system }] : [];
  for (const message of chat.messages.slice(0, end)) {
    const content = message.role === "user" ? message.content : shownVersion(message).content;
    if (content) messages.push({ role: message.role, content });
  }
  return messages;
}

/** Everything, as a file to keep. */
export function exportChats() {
  return JSON.stringify({ format: "minigpt chats", version: 1, chats: allChats() }, null, 2);
}

/**
 * Rated answers as preference records, one a line: {prompt, chosen, rejected}. Each turn gives a
 * record for each pair of an answer rated up and one rated down.
 */
export function preferenceRecords() {
  const records = [];
  for (const chat of allChats()) {
    chat.messages.forEach((message, index) => {
      if (message.role !== "assistant") return;
      const rated = (rating) => message.versions.filter((version) => version.rating === rating && version.content);
      const prompt = chat.messages[index - 1]?.content ?? "";
      for (const { content: chosen } of rated(1))
        for (const { content: rejected } of rated(-1))
          if (chosen.trim() !== rejected.trim()) records.push({ prompt, chosen, rejected });
    });
  }
  return records;
}
