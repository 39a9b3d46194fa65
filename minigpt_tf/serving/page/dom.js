// Elements are made here. Text only ever becomes a text node: nothing in these modules parses HTML.

export const byId = (id) => document.getElementById(id);

/** An element. A key "onclick" is a listener, a value false or null is left out, a string child is text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

/** A drawing of icons.svg. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `page/icons.svg#${name}`);
  drawing.append(use);
  return drawing;
}

/** A button with a drawing and a name that is shown as its hint. */
export function iconButton(name, label, onclick, attributes = {}) {
  return element(
    "button",
    { type: "button", class: "icon", title: label, "aria-label": label, onclick, ...attributes },
    icon(name),
  );
}

/** A short message at the edge of the page, which goes away. */
export function toast(text, kind = "note") {
  const shown = element("div", { class: `toast ${kind}` }, text);
  byId("toasts").append(shown);
  setTimeout(() => shown.remove(), kind === "error" ? 9000 : 4000);
}

/** What a screen reader reads out. */
export function speak(text) {
  byId("spoken").textContent = text;
}

/** Puts a text on the clipboard. Without permission, or without HTTPS, by the older command. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const hidden = element("textarea", { class: "unseen", "aria-hidden": "true" });
    hidden.value = text;
    document.body.append(hidden);
    hidden.select();
    const done = document.execCommand("copy");
    hidden.remove();
    button?.focus();
    if (!done) return toast("The browser does not allow copying.", "error");
  }
  speak("Copied");
  const use = button?.querySelector("use");
  if (!use) return;
  use.setAttribute("href", "page/icons.svg#check");
  setTimeout(() => use.setAttribute("href", "page/icons.svg#copy"), 1500);
}

/** Saves a text as a file. */
export function download(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Asks in a dialog; true if the answer is yes. */
export function confirmed(question, yes) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = question;
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
