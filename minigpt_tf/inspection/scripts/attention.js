// Attention: a picture of each head, the chosen one as a triangle, and where the chosen token looks.

const AVERAGE = -1; // in place of a head: the mean of all heads of the block
const SMALL = 96; // pixels of a small picture

async function decodeAttention() {
  const given = data.attention, high = await inflated(given.high);
  const low = given.low ? await inflated(given.low) : null;
  const size = (T * (T + 1)) / 2;
  state.exact = low != null;
  state.weight = (layer, head, query, key) => {
    const i = (layer * N + head) * size + (query * (query + 1)) / 2 + key;
    return low ? (256 * high[i] + low[i]) / 65535 : high[i] / 255;
  };
}

// The head to begin with: the one that is surest of a token between the first and its own.
function surestHead() {
  let best = [-1, 0, 0];
  for (let layer = 0; layer < L; layer++) {
    for (let head = 0; head < N; head++) {
      let sum = 0;
      for (let query = 2; query < T; query++) {
        let most = 0;
        for (let key = 1; key < query; key++) most = Math.max(most, state.weight(layer, head, query, key));
        sum += most;
      }
      if (sum > best[0]) best = [sum, layer, head];
    }
  }
  return best.slice(1);
}

function weightOf(layer, head, query, key) {
  if (head !== AVERAGE) return state.weight(layer, head, query, key);
  let sum = 0;
  for (let h = 0; h < N; h++) sum += state.weight(layer, h, query, key);
  return sum / N;
}

// What a weight is drawn as, from 0 to 1: without the first token, weights are seen relative to the largest of the others.
function strengths(layer, head, query) {
  const row = Array.from({ length: query + 1 }, (_, key) => weightOf(layer, head, query, key));
  if (!state.withoutFirst || query === 0) return row;
  row[0] = 0;
  const most = Math.max(...row, 1e-9);
  return row.map((w) => w / most);
}

// Draws rows of strengths as squares of `cell` pixels; a row has an entry for each square that is not in the future.
function drawSquares(canvas, rows, cell) {
  const size = rows.length * cell, gap = cell >= 8 ? 1 : 0;
  canvas.width = size;
  canvas.height = size;
  const context = canvas.getContext("2d"), from = rgb("--panel"), to = rgb("--accent"), later = rgb("--shade");
  const image = context.createImageData(size, size), pixels = image.data;
  rows.forEach((row, q) => {
    for (let k = 0; k < rows.length; k++) {
      const w = k < row.length ? row[k] ** 0.6 : 0;
      const color = k < row.length ? from.map((c, i) => Math.round(c + (to[i] - c) * w)) : later;
      for (let y = q * cell; y < (q + 1) * cell - gap; y++) {
        for (let x = k * cell; x < (k + 1) * cell - gap; x++) pixels.set([...color, 255], 4 * (y * size + x));
      }
    }
  });
  context.putImageData(image, 0, 0);
}

function drawTriangle(canvas, layer, head, cell) {
  drawSquares(canvas, data.tokens.map((_, query) => strengths(layer, head, query)), cell);
}

// A small picture of a head: of a long text a part of the rows, and the largest weight of neighbors.
function drawSmall(canvas, layer, head) {
  const size = Math.min(T, SMALL);
  const rows = Array.from({ length: size }, (_, y) => {
    const query = Math.min(T - 1, Math.floor(((y + 1) * T) / size) - 1), row = strengths(layer, head, query);
    return Array.from({ length: y + 1 }, (_, x) => Math.max(...row.slice(Math.floor((x * T) / size), Math.floor(((x + 1) * T) / size)), 0));
  });
  drawSquares(canvas, rows, 1);
}

function headGrid() {
  const grid = el("div", { class: "heads", role: "group", "aria-label": "heads", style: `grid-template-columns: max-content repeat(${N}, minmax(20px, 1fr)); max-width: ${80 + 48 * N}px` });
  const buttons = [], box = el("div", { class: "heads-box" }, grid);
  grid.append(el("span"), ...Array.from({ length: N }, (_, head) => el("span", { class: "top" }, String(head))));
  for (let layer = 0; layer < L; layer++) {
    grid.append(el("span", { class: "side" }, `block ${layer}`));
    for (let head = 0; head < N; head++) {
      const canvas = el("canvas");
      const button = el("button", { type: "button", "aria-label": `block ${layer}, head ${head}`, "data-head": `${layer}.${head}`,
        onclick: () => { state.layer = layer; state.head = head; state.watchers.forEach((draw) => draw()); } }, canvas);
      button.paint = () => drawSmall(canvas, layer, head);
      buttons.push(button);
      grid.append(button);
    }
  }
  roving(grid, buttons, N);
  watch(() => reachable(buttons, state.head === AVERAGE ? -1 : state.layer * N + state.head));
  requestAnimationFrame(() => { box.scrollTop = buttons[state.layer * N + state.head].offsetTop - box.clientHeight / 2; });
  const paint = () => buttons.forEach((button) => button.paint());
  state.repaint.push(paint);
  return box;
}

function bigTriangle() {
  const canvas = el("canvas", { class: "triangle", role: "img" }), readout = el("div", { class: "readout" }, "Touch a square: a row looks, a column is looked at.");
  const title = el("h3"), box = el("div", { class: "scroll" }, canvas);
  const say = (query, key) => {
    readout.textContent = key > query ? `${plain(data.tokens[key].text)} comes after ${plain(data.tokens[query].text)}: it cannot be seen`
      : `${plain(data.tokens[query].text)} pays ${exactly(weightOf(state.layer, state.head, query, key))} of its attention to ${plain(data.tokens[key].text)}`;
  };
  const draw = () => {
    const longest = 86, room = Math.max(200, Math.min(560, box.clientWidth || 400) - longest);
    const cell = Math.max(2, Math.min(30, Math.floor(room / T))), labels = cell >= 11, margin = labels ? longest : 0;
    const small = document.createElement("canvas"), context = canvas.getContext("2d"), scale = window.devicePixelRatio || 1;
    drawTriangle(small, state.layer, state.head, cell);
    const size = T * cell + margin;
    canvas.width = size * scale;
    canvas.height = size * scale;
    canvas.style.width = canvas.style.height = `${size}px`;
    context.scale(scale, scale);
    context.drawImage(small, margin, 0);
    context.strokeStyle = `rgb(${rgb("--heat")})`;
    context.lineWidth = 2;
    context.strokeRect(margin + 1, state.token * cell + 0.5, T * cell - 2, cell - 1);
    if (labels) {
      context.fillStyle = `rgb(${rgb("--ink")})`;
      context.font = `${Math.min(13, cell)}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace`;
      context.textBaseline = "middle";
      for (let i = 0; i < T; i++) {
        let text = plain(data.tokens[i].text);
        while (text.length > 1 && context.measureText(text).width > longest - 12) text = text.slice(0, -2) + "…";
        context.textAlign = "right";
        context.fillText(text, margin - 6, (i + 0.5) * cell);
        context.save();
        context.translate(margin + (i + 0.5) * cell, T * cell + 6);
        context.rotate(-Math.PI / 2);
        context.fillText(text, 0, 0);
        context.restore();
      }
    }
    canvas.place = { cell, margin };
    const name = state.head === AVERAGE ? `block ${state.layer}, mean of its heads` : `block ${state.layer}, head ${state.head}`;
    title.textContent = name[0].toUpperCase() + name.slice(1);
    canvas.setAttribute("aria-label", `attention of ${name}; the list of where the chosen token looks says it in words`);
  };
  const at = (event) => {
    const { cell, margin } = canvas.place, edge = canvas.getBoundingClientRect();
    return [event.clientY - edge.top, event.clientX - edge.left - margin].map((v) => Math.max(0, Math.min(T - 1, Math.floor(v / cell))));
  };
  canvas.addEventListener("pointermove", (event) => say(...at(event)));
  canvas.addEventListener("click", (event) => { select(at(event)[0]); say(...at(event)); });
  state.repaint.push(draw);
  watch(draw);
  return el("div", {}, title, box, readout);
}

function exactly(weight) { return state.exact ? weight.toFixed(4) : weight.toFixed(2); }

function looks() {
  const list = el("div", { class: "tokens" }), title = el("h3"), strongest = el("p", { class: "small figure" });
  watch(() => {
    const query = state.token, row = strengths(state.layer, state.head, query);
    title.replaceChildren("Where ", el("span", { class: "mono" }, piece(data.tokens[query].text)), " looks");
    list.replaceChildren(...data.tokens.map((token, key) => {
      if (key > query) return el("span", { class: "token unreached", title: "comes later: cannot be seen" }, piece(token.text), el("span", { class: "under" }, "–"));
      const weight = weightOf(state.layer, state.head, query, key);
      return el("span", { class: "token", "--warmth": `${100 * row[key]}%` }, piece(token.text), el("span", { class: "under" }, weight.toFixed(2)));
    }));
    const best = Array.from({ length: query + 1 }, (_, key) => [weightOf(state.layer, state.head, query, key), key]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    strongest.textContent = "Most: " + best.map(([weight, key]) => `${plain(data.tokens[key].text)} ${exactly(weight)}`).join(" · ");
    strongest.dataset.weights = JSON.stringify(best);
  });
  return el("div", { class: "looks" }, title, list, strongest);
}

function attentionChoices() {
  const first = el("input", { type: "checkbox", id: "without-first", onchange: () => { state.withoutFirst = first.checked; state.repaint.forEach((draw) => draw()); state.watchers.forEach((draw) => draw()); } });
  const mean = el("button", { type: "button", id: "mean", onclick: () => { state.head = AVERAGE; state.watchers.forEach((draw) => draw()); } }, "Mean of the block's heads");
  watch(() => mean.setAttribute("aria-pressed", String(state.head === AVERAGE)));
  return el("div", { class: "row" }, el("label", { class: "choice small" }, first, "Colors without the first token, on which many heads rest"), mean);
}

function attentionCard() {
  const about = "A token looks only at itself and at what came before: the triangle. Choose a head; a picture is one head of one block.";
  const holder = el("div", {}, el("p", { class: "soft" }, "decoding …"));
  state.repaint = [];
  decodeAttention().then(() => {
    [state.layer, state.head] = surestHead();
    holder.replaceChildren(attentionChoices());
    holder.append(el("div", { class: "both" }, headGrid(), bigTriangle()), looks());
    state.repaint.forEach((draw) => draw());
    whenColorsChange(() => state.repaint.forEach((draw) => draw()));
    document.body.dataset.ready = "yes";
  }).catch((error) => holder.replaceChildren(el("p", { class: "note" }, `This browser cannot unpack the attention (${error}): use one of 2023 or later.`)));
  return card("Where it looks", about, holder);
}
