// A map of the token embeddings: the page of `minigpt inspect --embeddings`.

const M = data.texts.length;
const view = { zoom: 1, x: 0.5, y: 0.5, chosen: data.chosen == null ? 0 : data.chosen };
const WORD = /^ ?[\p{L}\p{N}]{2,}$/u; // what gets a label on the map without being asked for
let places, neighbors, similarities;

async function decode() {
  places = new Uint16Array((await inflated(data.places)).buffer);
  neighbors = new Uint32Array((await inflated(data.neighbors)).buffer);
  similarities = new Float32Array((await inflated(data.similarities)).buffer);
}

function neighborsOf(i) {
  return Array.from({ length: data.count }, (_, k) => [neighbors[i * data.count + k], similarities[i * data.count + k]]);
}

function mapCard(onChoose) {
  const canvas = el("canvas", { role: "img", "aria-label": "map of the token embeddings; the list of nearest tokens says it in words" });
  const box = el("div", { class: "map" }, canvas);
  const readout = el("div", { class: "readout" }, "Touch a point to see its token; drag to move, turn the wheel or press + to come nearer.");
  let width = 0, height = 0;
  const at = (i) => {
    const side = Math.min(width, height) * 0.92 * view.zoom;
    return [width / 2 + (places[2 * i] / 65535 - view.x) * side * (width / height > 1.3 ? 1.3 : 1), height / 2 - (places[2 * i + 1] / 65535 - view.y) * side];
  };
  const draw = () => {
    const scale = window.devicePixelRatio || 1;
    width = box.clientWidth || 600;
    height = Math.min(560, Math.max(300, width * 0.72));
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d"), ink = rgb("--ink"), soft = rgb("--soft"), accent = rgb("--accent"), heat = rgb("--heat"), panel = rgb("--panel");
    context.scale(scale, scale);
    context.clearRect(0, 0, width, height);
    const size = Math.max(1, Math.min(4, (view.zoom * 60) / Math.sqrt(M)));
    context.fillStyle = `rgba(${soft}, ${M > 5000 ? 0.35 : 0.6})`;
    for (let i = 0; i < M; i++) {
      const [x, y] = at(i);
      if (x > -5 && y > -5 && x < width + 5 && y < height + 5) context.fillRect(x - size / 2, y - size / 2, size, size);
    }
    context.font = '12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
    context.textBaseline = "middle";
    const taken = [];
    const label = (i, color, force) => {
      const [x, y] = at(i), text = plain(data.texts[i]).slice(0, 24), w = context.measureText(text).width;
      const where = [x + 6, y - 8, x + 10 + w, y + 8];
      if (x < 0 || y < 8 || where[2] > width || y > height - 8) { if (!force) return; }
      if (!force && taken.some((t) => t[0] < where[2] && where[0] < t[2] && t[1] < where[3] && where[1] < t[3])) return;
      taken.push(where);
      context.lineWidth = 4;
      context.strokeStyle = `rgba(${panel}, 0.85)`;
      context.strokeText(text, x + 8, y);
      context.fillStyle = color;
      context.fillText(text, x + 8, y);
    };
    const near = neighborsOf(view.chosen);
    const [cx, cy] = at(view.chosen);
    context.strokeStyle = `rgba(${accent}, 0.5)`;
    for (const [i] of near) { const [x, y] = at(i); context.beginPath(); context.moveTo(cx, cy); context.lineTo(x, y); context.stroke(); }
    for (const [i] of near) { const [x, y] = at(i); context.fillStyle = `rgb(${accent})`; context.beginPath(); context.arc(x, y, 3.5, 0, 7); context.fill(); }
    context.fillStyle = `rgb(${heat})`;
    context.beginPath();
    context.arc(cx, cy, 5.5, 0, 7);
    context.fill();
    label(view.chosen, `rgb(${heat})`, true);
    for (const [i] of near) label(i, `rgb(${accent})`, false);
    for (let i = 0, tries = Math.min(M, 4000); i < tries && taken.length < 60; i++) if (WORD.test(data.texts[i])) label(i, `rgba(${ink}, 0.8)`, false);
  };
  const nearestTo = (event) => {
    const edge = canvas.getBoundingClientRect(), px = event.clientX - edge.left, py = event.clientY - edge.top;
    let best = -1, least = 24 * 24;
    for (let i = 0; i < M; i++) {
      const [x, y] = at(i), d = (x - px) ** 2 + (y - py) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  };
  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) { const i = nearestTo(event); if (i >= 0) readout.textContent = `${plain(data.texts[i])}, id ${data.ids[i]}`; return; }
    const dx = event.clientX - held.x, dy = event.clientY - held.y;
    if (Math.abs(dx) + Math.abs(dy) > 4) held.moved = true;
    if (!held.moved) return;
    const side = Math.min(width, height) * 0.92 * view.zoom;
    view.x -= dx / side;
    view.y += dy / side;
    held.x = event.clientX;
    held.y = event.clientY;
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved) { const i = nearestTo(event); if (i >= 0) onChoose(i); }
    held = null;
  });
  const zoom = (factor) => { view.zoom = Math.min(200, Math.max(1, view.zoom * factor)); draw(); };
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
  box.append(el("div", { class: "zoom" },
    el("button", { type: "button", "aria-label": "nearer", onclick: () => zoom(1.6) }, "+"),
    el("button", { type: "button", "aria-label": "farther", onclick: () => zoom(1 / 1.6) }, "−"),
    el("button", { type: "button", "aria-label": "to the chosen token", onclick: () => { [view.x, view.y] = [places[2 * view.chosen] / 65535, places[2 * view.chosen + 1] / 65535]; draw(); } }, "◎")));
  new ResizeObserver(() => { if (box.clientWidth !== width) draw(); }).observe(box);
  whenColorsChange(draw);
  return { element: el("div", {}, box, readout), draw };
}

function nearCard(onChoose) {
  const holder = el("div");
  const draw = () => {
    const i = view.chosen;
    const rows = neighborsOf(i).flatMap(([j, similarity]) => [
      el("button", { type: "button", title: `id ${data.ids[j]}`, onclick: () => onChoose(j) }, plain(data.texts[j])),
      el("span", { class: "track", "aria-hidden": "true" }, el("span", { class: "fill", style: `width:${Math.max(0, 100 * similarity)}%` })),
      el("span", { class: "small figure" }, number(similarity)),
    ]);
    holder.replaceChildren(el("h3", {}, "Nearest to ", el("span", { class: "mono" }, piece(data.texts[i]))),
      el("p", { class: "small soft figure" }, `id ${data.ids[i]}, length of its vector ${number(data.norms[i], 2)}; cosines`),
      el("div", { class: "near" }, ...rows));
  };
  return { element: holder, draw };
}

function searchBox(onChoose) {
  const found = el("p", { class: "readout", "aria-live": "polite" });
  const input = el("input", { type: "search", id: "search", placeholder: "find a token", "aria-label": "find a token" });
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    if (!wanted) { found.textContent = ""; return; }
    const bare = data.texts.map((text) => text.trim().toLowerCase());
    let i = bare.indexOf(wanted);
    if (i < 0) i = bare.findIndex((text) => text.startsWith(wanted));
    found.textContent = i < 0 ? "no token begins like this" : `${plain(data.texts[i])}, id ${data.ids[i]}`;
    if (i >= 0) onChoose(i);
  });
  return el("div", {}, input, found);
}

async function start() {
  const [one, two] = data.explained.map((f) => (100 * f).toFixed(1));
  document.body.append(el("header", {}, el("h1", {}, `Token embeddings of ${data.name}`),
    el("p", { class: "soft" }, `Each of ${count(M)} tokens is a vector; the map shows the two directions in which they differ most (PCA).`),
    facts(`${one} % and ${two} % of the variance`, `${data.count} neighbors of each`),
    ...(data.left_out ? notices([`${count(data.left_out)} more tokens are not on the map.`]) : [])));
  const main = el("main");
  document.body.append(main, el("footer", {}, `Written by minigpt inspect ${data.version}. The page is one file and asks no server for anything.`));
  try { await decode(); } catch (error) {
    main.append(el("p", { class: "note" }, `This browser cannot unpack the map (${error}): use one of 2023 or later.`));
    return;
  }
  const choose = (i) => { view.chosen = i; map.draw(); near.draw(); };
  const map = mapCard(choose), near = nearCard(choose);
  main.append(card("The map", "A map of two directions hides the others: trust the list of nearest tokens, which looks at all of them.",
    el("div", { class: "wide" }, map.element, el("div", {}, searchBox(choose), near.element))));
  map.draw();
  near.draw();
  document.body.dataset.ready = "yes";
}

start();
