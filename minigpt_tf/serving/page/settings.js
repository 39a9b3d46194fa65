// The panel of settings. Only what a person has changed is sent; all else is the model's default.

import { byId, element } from "./dom.js";
import { change, factsOf, modelOf, modeOf, session } from "./session.js";

const FIELDS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, usual: 0.8,
    help: "0 takes the most likely token each time. Higher is more varied." },
  { name: "top_p", label: "Top-p", min: 0.01, max: 1, step: 0.01, usual: 0.95,
    help: "Chooses among the most likely tokens that together have this probability." },
  { name: "max_tokens", label: "Longest answer", min: 1, max: 4096, step: 1, usual: "the server's",
    help: "In tokens." },
  { name: "seed", label: "Seed", min: 0, max: 2147483647, step: 1, usual: "random", bare: true,
    help: "The same seed gives the same text." },
];

const panel = byId("settings");
const form = byId("options");
const inputs = {};
let system;

function build() {
  system = element("textarea", { id: "system", rows: 4, placeholder: "Who the model is, and how it answers" });
  system.addEventListener("change", () => change({ system: system.value }));
  form.append(element("div", { class: "field", id: "system-field" }, element("label", { for: "system" }, "System text"), system));
  for (const field of FIELDS) form.append(row(field));
  const reset = element("button", { type: "button", onclick: () => change({ settings: {}, system: "" }) }, "Back to the model's defaults");
  form.append(reset);
  form.addEventListener("submit", (event) => event.preventDefault());
}

function row({ name, label, min, max, step, help, bare }) {
  const id = `set-${name}`;
  const number = element("input", { id, type: "number", min, max, step, "aria-describedby": `${id}-help` });
  const slider = !bare && element("input", { type: "range", min, max, step, "aria-label": label, tabindex: -1 });
  inputs[name] = { number, slider };
  number.addEventListener("change", () => set(name, number));
  slider && slider.addEventListener("input", () => (number.value = slider.value));
  slider && slider.addEventListener("change", () => set(name, slider));
  return element(
    "div",
    { class: "field" },
    element("label", { for: id }, label),
    number,
    slider,
    element("small", { id: `${id}-help` }, help),
  );
}

function set(name, input) {
  const { min, max, step } = FIELDS.find((field) => field.name === name);
  const settings = { ...session.chat.settings };
  const value = input.valueAsNumber;
  if (Number.isNaN(value)) delete settings[name];
  else settings[name] = Math.min(max, Math.max(min, step === 1 ? Math.round(value) : value));
  change({ settings });
}

/** Shows the settings of the chat, and the defaults of its model. */
export function drawSettings() {
  const { settings, system: text } = session.chat;
  const defaults = factsOf(modelOf()).defaults ?? {};
  byId("system-field").hidden = modeOf() === "continue";
  if (document.activeElement !== system) system.value = text;
  for (const { name, usual } of FIELDS) {
    const { number, slider } = inputs[name];
    const fallback = defaults[name] ?? usual;
    number.value = settings[name] ?? "";
    number.placeholder = fallback;
    if (slider) slider.value = settings[name] ?? (typeof fallback === "number" ? fallback : 512);
  }
}

/** Opens or closes the panel. */
export function openSettings(open) {
  panel.hidden = !open;
  byId("settings-open").setAttribute("aria-expanded", open);
  if (open) panel.querySelector("textarea:not([hidden]), input").focus();
  else byId("settings-open").focus();
}

byId("settings-open").addEventListener("click", () => openSettings(panel.hidden));
byId("settings-close").addEventListener("click", () => openSettings(false));
build();
