// Starts the page and connects its parts.

import { byId, element, speak, toast } from "./dom.js";
import { drawGrowth, drawMessages, editLast, factsLine, scrollToEnd, showLatest } from "./messages.js";
import { drawPaper, drawPaperGrowth } from "./paper.js";
import { canChat, change, isRunning, loadModels, modelOf, modeOf, on, reload, send, session, show, stop } from "./session.js";
import { drawSettings, openSettings } from "./settings.js";
import { drawChats, openMenu } from "./sidebar.js";
import { onForeignChange, titleOf } from "./store.js";

const IDEAS = ["Explain what a language model is.", "Write a short poem about the sea.", "Give me three ideas for dinner."];
const prompt = byId("prompt");
const models = byId("model");

function draw() {
  const { chat } = session;
  const mode = modeOf();
  const running = isRunning();
  drawModels();
  byId("conversation").hidden = mode !== "chat";
  byId("paper").hidden = mode === "chat";
  byId("composer").hidden = mode !== "chat";
  byId("writing").hidden = mode === "chat";
  document.querySelectorAll("#modes input").forEach((radio) => {
    radio.checked = radio.value === mode;
    radio.disabled = running || (radio.value === "chat" && !canChat(modelOf()));
    radio.parentElement.title = radio.disabled && !running ? "This model has no chat template: it continues texts." : "";
  });
  if (mode === "chat") drawMessages(chat);
  else drawPaper();
  byId("send").hidden = running;
  byId("stop").hidden = !running;
  byId("send").disabled = !prompt.value.trim() || !session.models.length;
  drawSettings();
  showLatest();
  const title = titleOf(chat);
  document.title = title === "New chat" ? "minigpt" : `${title} - minigpt`;
}

function drawModels() {
  const { chat } = session;
  if (session.models.length && !modelOf()) {
    if (chat.model) toast(`The server no longer has ${chat.model}: ${session.models[0].id} answers.`);
    chat.model = session.models[0].id;
  }
  const ids = session.models.map((model) => model.id);
  if ([...models.options].map((option) => option.value).join("\n") !== ids.join("\n"))
    models.replaceChildren(...ids.map((id) => element("option", { value: id }, id)));
  models.value = chat.model;
  models.disabled = isRunning() || ids.length < 2;
  byId("facts").textContent = modelOf() ? factsLine(modelOf()) : "";
}

function fit() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, innerHeight * 0.4)}px`;
  byId("send").disabled = !prompt.value.trim() || !session.models.length;
}

function submit() {
  const text = prompt.value.trim();
  if (!text || isRunning() || !session.models.length) return;
  prompt.value = "";
  fit();
  if (location.hash.slice(1) !== session.chat.id) history.pushState(null, "", `#${session.chat.id}`);
  send(text);
  scrollToEnd();
  prompt.focus();
}

function newOne() {
  openMenu(false);
  if (location.hash) location.hash = "";
  else show();
  (modeOf() === "chat" ? prompt : byId("text")).focus();
}

function shortcuts(event) {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (isRunning()) stop();
    else if (document.body.classList.contains("menu")) openMenu(false);
    else if (!byId("settings").hidden) openSettings(false);
  } else if (event.altKey && !event.ctrlKey && event.code === "KeyN") {
    event.preventDefault();
    newOne();
  } else if (event.altKey && !event.ctrlKey && event.code === "KeyS") {
    event.preventDefault();
    openSettings(byId("settings").hidden);
  }
}

function connect() {
  on("chat", (chat = session.chat) => {
    if (chat !== session.chat) return;
    if (wasRunning === chat.id && !isRunning(chat)) speak("The answer is complete.");
    wasRunning = isRunning(chat) ? chat.id : null;
    if (isRunning(chat) && location.hash.slice(1) !== chat.id) history.replaceState(null, "", `#${chat.id}`);
    draw();
  });
  on("growth", (chat) => {
    if (chat !== session.chat) return;
    if (modeOf() === "chat") drawGrowth(chat);
    else drawPaperGrowth();
  });
  on("list", drawChats);
  on("notice", (text) => toast(text, "error"));
  onForeignChange(reload);
  addEventListener("hashchange", () => {
    show(location.hash.slice(1));
    drawChats();
  });
  addEventListener("keydown", shortcuts);
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  prompt.addEventListener("input", fit);
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && !prompt.value) {
      event.preventDefault();
      editLast();
    }
  });
  for (const id of ["stop", "halt"]) byId(id).addEventListener("click", stop);
  models.addEventListener("change", () => change({ model: models.value }));
  byId("modes").addEventListener("change", (event) => change({ mode: event.target.value }));
  byId("new-chat").addEventListener("click", newOne);
  byId("latest").addEventListener("click", scrollToEnd);
  byId("conversation").addEventListener("scroll", showLatest, { passive: true });
  byId("ideas").append(
    ...IDEAS.map((idea) =>
      element("button", { type: "button", onclick: () => { prompt.value = idea; submit(); } }, idea)),
  );
}

let wasRunning = null;

async function start() {
  connect();
  show(location.hash.slice(1));
  drawChats();
  for (;;) {
    try {
      await loadModels();
      break;
    } catch (error) {
      byId("welcome").querySelector("h1").textContent = "No model yet";
      byId("welcome").querySelector("p").textContent = error.message;
      if (error.status === 401) break;
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
  (modeOf() === "chat" ? prompt : byId("text")).focus();
}

start();
