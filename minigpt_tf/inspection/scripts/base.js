// What all pages share: elements, numbers, arrays that were deflated.

const data = JSON.parse(document.getElementById("data").textContent);

// Children are elements or plain text; text is never read as markup.
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function svg(tag, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text != null) element.textContent = text;
  return element;
}

function card(title, about, ...children) {
  const explained = typeof about === "string" ? el("p", { class: "soft small" }, about) : about;
  return el("section", {}, el("h2", {}, title), explained, ...children);
}

// A token as a person can see it: spaces and line ends have signs of their own.
function piece(text, properties = {}) {
  const parts = [];
  for (const part of text.split(/( +|\n|\t)/)) {
    if (/^( +|\n|\t)$/.test(part)) {
      const sign = part === "\n" ? "⏎" : part === "\t" ? "⇥" : "␣".repeat(part.length);
      parts.push(el("span", { class: "blank" }, sign));
    } else if (part) parts.push(part);
  }
  return el("span", { class: "piece", ...properties }, ...(parts.length ? parts : ["∅"]));
}

function plain(text) {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅";
}

function probability(p) {
  if (p == null) return "–";
  if (p >= 0.001) return p.toFixed(4);
  return p === 0 ? "0" : p.toExponential(2).replace("-", "−");
}

function number(x, digits = 4) {
  if (x == null) return "–";
  const size = Math.abs(x);
  const text = x !== 0 && (size < 1e-3 || size >= 1e6) ? x.toExponential(digits - 2) : x.toFixed(size >= 1000 ? 1 : digits);
  return text.replace("-", "−");
}

function count(n) { return n.toLocaleString("en-US"); }

// Bars of (text, probability); the one with the id `actual` is marked.
function bars(rows, actual = null) {
  const most = Math.max(...rows.map((row) => row.probability), 1e-9);
  const list = el("div", { class: "bars" });
  for (const row of rows) {
    const mark = row.id === actual ? " actual" : "";
    list.append(
      el("span", { class: "name" + mark, title: `id ${row.id}` }, plain(row.text)),
      el("span", { class: "track", "aria-hidden": "true" },
        el("span", { class: "fill" + mark, style: `width:${(100 * row.probability) / most}%` })),
      el("span", { class: "value" + mark }, probability(row.probability)),
    );
  }
  return list;
}

// Buttons of which one can be reached by Tab and the others by the arrow keys.
function roving(container, buttons, perRow = 1) {
  buttons.forEach((button, i) => { button.tabIndex = i ? -1 : 0; });
  container.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow, Home: -at, End: buttons.length - 1 - at };
    const to = at + steps[event.key];
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    if (to < 0 || to >= buttons.length) return;
    buttons[to].focus();
    buttons[to].click();
  });
}

function reachable(buttons, chosen) {
  buttons.forEach((button, i) => {
    button.tabIndex = i === chosen ? 0 : -1;
    button.setAttribute("aria-pressed", String(i === chosen));
  });
}

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A color of the style sheet as [red, green, blue].
function rgb(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}

function whenColorsChange(draw) {
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

function facts(...items) {
  return el("ul", { class: "facts" }, ...items.map((item) => el("li", {}, item)));
}

function notices(list) { return list.map((text) => el("p", { class: "note" }, text)); }
