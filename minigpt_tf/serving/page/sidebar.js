// The list of chats, and what concerns all of them.

import { byId, confirmed, download, element, iconButton, toast } from "./dom.js";
import { forget, session } from "./session.js";
import { allChats, exportChats, preferenceRecords, titleOf } from "./store.js";

const THEMES = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
const today = () => new Date().toISOString().slice(0, 10);

/** Draws the list. */
export function drawChats() {
  const rows = allChats().map((chat) => {
    const current = chat.id === session.chat.id;
    const title = titleOf(chat);
    const link = element("a", { href: `#${chat.id}`, title, "aria-current": current && "page" }, title);
    const remove = async () => {
      if (!(await confirmed(`Delete “${title}”?`, "Delete"))) return;
      forget(chat.id);
      if (current) location.hash = "";
    };
    return element("li", { class: current ? "current" : "" }, link, iconButton("trash", `Delete ${title}`, remove));
  });
  byId("chats").replaceChildren(...rows);
}

/** Opens or closes the list on a narrow screen. */
export function openMenu(open) {
  document.body.classList.toggle("menu", open);
  byId("menu").setAttribute("aria-expanded", open);
  byId("shade").hidden = !open;
  if (open) byId("new-chat").focus();
}

function drawTheme() {
  const label = THEMES[document.documentElement.dataset.theme];
  byId("theme").title = label;
  byId("theme").setAttribute("aria-label", label);
}

byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
  document.documentElement.dataset.theme = next;
  localStorage.setItem("minigpt.theme", next);
  drawTheme();
});

byId("export").addEventListener("click", () => {
  if (!allChats().length) return toast("There is no chat yet.");
  download(exportChats(), `minigpt-chats-${today()}.json`, "application/json");
});

byId("preferences").addEventListener("click", () => {
  const records = preferenceRecords();
  if (!records.length)
    return toast("No pairs yet: answer a question again, and rate one answer up and one down.");
  const lines = records.map((record) => `${JSON.stringify(record)}\n`).join("");
  download(lines, `minigpt-preferences-${today()}.jsonl`, "application/jsonl");
  toast(`${records.length} preference record${records.length === 1 ? "" : "s"} exported.`);
});

byId("delete-all").addEventListener("click", async () => {
  const chats = allChats();
  if (!chats.length) return toast("There is no chat yet.");
  if (!(await confirmed(`Delete all ${chats.length} chats? They cannot be brought back.`, "Delete all"))) return;
  chats.forEach((chat) => forget(chat.id));
  location.hash = "";
});

byId("menu").addEventListener("click", () => openMenu(!document.body.classList.contains("menu")));
byId("shade").addEventListener("click", () => openMenu(false));
byId("chats").addEventListener("click", (event) => event.target.tagName === "A" && openMenu(false));
drawTheme();
