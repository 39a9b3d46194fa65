// The conversation: bubbles, answers that grow, and what can be done with each.

import { byId, copy, element, iconButton } from "./dom.js";
import { markdown } from "./markdown.js";
import { edit, factsOf, isRunning, modelOf, rate, regenerate, session, showVersion } from "./session.js";
import { count, large, noticeLines, statsLine } from "./stats.js";
import { shownVersion } from "./store.js";

const list = byId("messages");
const view = byId("conversation");
const NEAR = 80; // pixels from the end within which the view follows what grows

const WHERE = "What you write goes to this server, and stays in this browser.";

let drawn = null; // the chat that is shown, and a frame that is asked for
let frame = 0;

const isNearEnd = () => view.scrollHeight - view.scrollTop - view.clientHeight < NEAR;

/** To the last line. */
export function scrollToEnd() {
  view.scrollTop = view.scrollHeight;
}

/** Draws all messages of the chat. */
export function drawMessages(chat) {
  const follow = drawn !== chat || isNearEnd();
  const focus = document.activeElement?.closest?.("#messages") && document.activeElement.getAttribute("aria-label");
  const turn = focus && [...list.children].indexOf(document.activeElement.closest("article"));
  drawn = chat;
  list.replaceChildren(...chat.messages.map((message, index) => article(chat, message, index)));
  drawWelcome(chat);
  if (focus) list.children[turn]?.querySelector(`[aria-label="${CSS.escape(focus)}"]`)?.focus();
  if (follow) scrollToEnd();
  showLatest();
}

/** Draws the text of the answer that grows, once a frame. */
export function drawGrowth(chat) {
  if (chat !== drawn || frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    const body = list.lastElementChild?.querySelector(".body");
    if (chat !== drawn || !body || !isRunning(chat)) return;
    const follow = isNearEnd();
    body.replaceChildren(...markdown(shownVersion(chat.messages.at(-1)).content));
    if (follow) scrollToEnd();
    showLatest();
  });
}

export function showLatest() {
  byId("latest").hidden = view.hidden || isNearEnd();
}

function article(chat, message, index) {
  return message.role === "user" ? question(chat, message, index) : answer(chat, message, index);
}

function question(chat, message, index) {
  const bubble = element("div", { class: "bubble" }, message.content);
  const copyButton = iconButton("copy", "Copy", () => copy(message.content, copyButton));
  const editButton = iconButton("edit", "Edit and send again", () => editor(made, message, index), {
    disabled: isRunning(chat),
  });
  const made = element(
    "article",
    { class: "user", "aria-label": "You" },
    bubble,
    element("div", { class: "actions" }, copyButton, editButton),
  );
  return made;
}

function editor(made, message, index) {
  const field = element("textarea", { "aria-label": "Edit your message", rows: 3 });
  field.value = message.content;
  const cancel = () => {
    drawMessages(session.chat);
    list.children[index]?.querySelector('[aria-label^="Edit"]')?.focus();
  };
  const done = () => field.value.trim() && !isRunning() && edit(index, field.value.trim());
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      cancel();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      done();
    }
  });
  made.replaceChildren(
    element(
      "div",
      { class: "editor" },
      field,
      element(
        "div",
        {},
        element("button", { type: "button", onclick: cancel }, "Cancel"),
        element("button", { type: "button", class: "primary", onclick: done }, "Send"),
      ),
    ),
  );
  field.focus();
}

/** Opens the editor of the last question. */
export function editLast() {
  const buttons = list.querySelectorAll('.user [aria-label^="Edit"]');
  buttons[buttons.length - 1]?.click();
}

function answer(chat, message, index) {
  const version = shownVersion(message);
  const growing = isRunning(chat) && index === chat.messages.length - 1;
  const body = element("div", { class: "body" }, ...markdown(version.content));
  if (growing) body.append(...(version.content ? [] : [dots()]));
  const made = element("article", { class: growing ? "answer growing" : "answer", "aria-label": version.model }, body);
  made.setAttribute("aria-busy", growing);
  made.append(...noticeLines(version));
  if (!growing) made.append(answerActions(chat, message, version, index));
  return made;
}

const dots = () => element("span", { class: "dots", "aria-label": "The model reads" }, element("i"), element("i"), element("i"));

function answerActions(chat, message, version, index) {
  const busy = { disabled: isRunning(chat) };
  const copyButton = iconButton("copy", "Copy", () => copy(version.content, copyButton));
  const rating = (name, label, value) =>
    iconButton(name, label, () => rate(index, value), { "aria-pressed": String(version.rating === value) });
  const buttons = [
    copyButton,
    iconButton("again", "Answer again", () => regenerate(index), busy),
    rating("thumb-up", "Good answer", 1),
    rating("thumb-down", "Bad answer", -1),
  ];
  if (message.versions.length > 1) buttons.unshift(versions(message, index));
  const stats = element("span", { class: "stats" }, statsLine(version));
  return element("div", { class: "actions" }, ...buttons, stats);
}

function versions(message, index) {
  const { shown, versions: all } = message;
  const step = (name, label, to) =>
    iconButton(name, label, () => showVersion(index, to), { disabled: to < 0 || to >= all.length });
  return element(
    "span",
    { class: "versions" },
    step("left", "Answer before", shown - 1),
    element("span", {}, `${shown + 1}/${all.length}`),
    step("right", "Next answer", shown + 1),
  );
}

/** The greeting of an empty chat. */
function drawWelcome(chat) {
  const model = modelOf(chat);
  const welcome = byId("welcome");
  welcome.hidden = chat.messages.length > 0;
  welcome.querySelector("h1").textContent = model ? `Ask ${model.id}` : "minigpt";
  welcome.querySelector("p").textContent = model ? factsOf(model).notice || WHERE : "";
}

/** What is known of a model: "134.5M parameters · int8 · context 2,048". */
export function factsLine(model) {
  const facts = factsOf(model);
  const said = [];
  if (facts.parameters) said.push(`${large(facts.parameters)} parameters`);
  if (facts.quantize && facts.quantize !== "none") said.push(facts.quantize);
  if (facts.context_length) said.push(`context ${count(facts.context_length)}`);
  return said.join(" · ");
}
