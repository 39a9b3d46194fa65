// A text and what happens in the model while it reads it: the page of `minigpt inspect TEXT`.

const T = data.tokens.length, L = data.model.layers, N = data.model.heads;
const MOST_SURPRISED = 8; // nats at which a token is as red as it gets
const state = { token: T - 1, layer: 0, head: 0, triangles: null, watchers: [] };

function textOf(id) { return data.texts[id]; }
function watch(draw) { state.watchers.push(draw); draw(); }
function select(token) {
  state.token = Math.max(0, Math.min(T - 1, token));
  state.watchers.forEach((draw) => draw());
}

function tokenButton(i, under, properties = {}) {
  const token = data.tokens[i], made = i >= data.prompt_tokens ? " generated" : "";
  return el("button", { class: "token" + made, type: "button", onclick: () => select(i), ...properties },
    piece(token.text), el("span", { class: "under" }, under));
}

// ---------------------------------------------------------------- what it reads

function reading() {
  const buttons = data.tokens.map((token, i) => {
    const warmth = token.surprise == null ? 0 : Math.min(100, (100 * token.surprise) / MOST_SURPRISED);
    const said = token.surprise == null ? "the first token" : `surprise ${token.surprise.toFixed(2)} nats`;
    return tokenButton(i, token.surprise == null ? "–" : token.surprise.toFixed(2),
      { "--warmth": `${warmth}%`, "aria-label": `${token.text}, ${said}`, "data-token": i });
  });
  const row = el("div", { class: "tokens", role: "group", "aria-label": "tokens" }, ...buttons);
  roving(row, buttons, 1);
  watch(() => reachable(buttons, state.token));
  const about = "Each box is a token; the number is the model's surprise in nats, −log of the probability that it gave the token. " +
    "Red is surprised. Choose one to look inside, also with the arrow keys" + (data.prompt_tokens < T ? "; dotted tokens are the model's own." : ".");
  return card("What it reads", about, row, details());
}

function details() {
  const own = el("div"), next = el("div");
  watch(() => {
    const i = state.token, token = data.tokens[i];
    const head = el("h3", {}, "This token: ", el("span", { class: "mono" }, piece(token.text)));
    const place = el("p", { class: "small soft figure" }, `position ${i}, id ${token.id}`);
    if (token.surprise == null) own.replaceChildren(head, place, el("p", { class: "small" }, "Nothing comes before it, so the model did not guess it."));
    else {
      const figures = el("p", { class: "small figure" }, `probability ${probability(token.probability)} · surprise ${number(token.surprise)} nats, ` +
        `${number(token.surprise / Math.LN2, 2)} bits · rank ${count(token.rank)} of ${count(data.model.vocab_size)}`);
      const rows = token.alternatives.slice();
      if (!rows.some((row) => row.id === token.id)) rows.push({ id: token.id, text: token.text, probability: token.probability });
      own.replaceChildren(head, place, figures, el("p", { class: "small soft" }, "The model expected here:"), bars(rows, token.id));
    }
    const after = i + 1 < T ? data.tokens[i + 1] : null, rows = after ? after.alternatives.slice() : data.next;
    if (after && !rows.some((row) => row.id === after.id)) rows.push({ id: after.id, text: after.text, probability: after.probability });
    next.replaceChildren(
      el("h3", {}, "What comes after it?"),
      el("p", { class: "small soft" }, after ? "Green is what does come." : "The text ends here; this is how the model would continue it."),
      bars(rows, after ? after.id : null));
  });
  return el("div", { class: "columns" }, own, next);
}

// ---------------------------------------------------------------- what each layer would say

const layerNames = Array.from({ length: L + 1 }, (_, layer) => (layer === 0 ? "embedding" : `block ${layer - 1}`));

function lens() {
  const list = el("div", { class: "says" });
  watch(() => {
    const i = state.token, after = i + 1 < T ? data.tokens[i + 1].id : null;
    const rows = layerNames.flatMap((name, layer) => {
      const options = data.lens.ids[layer][i].map((id, k) => {
        const p = data.lens.probabilities[layer][i][k];
        return el("span", { class: "option" + (id === after ? " right" : ""), "--warmth": `${100 * p}%` },
          plain(textOf(id)), el("small", {}, p.toFixed(2)));
      });
      return [el("span", { class: "small soft" }, name), el("span", { class: "options" }, ...options)];
    });
    list.replaceChildren(el("span"), el("span", { class: "small" }, "after ", el("span", { class: "mono" }, piece(data.tokens[i].text))), ...rows);
  });
  const about = "The logit lens: the output head applied to what stands between the blocks, as if the model ended there. " +
    (data.model.norm_first ? "The last row is the model's own answer." : "The last row is the model's own answer; in this model each block ends in a norm, as the head expects.") + " A green frame is the token that does come next.";
  const all = el("details", {}, el("summary", {}, "All tokens at once"));
  all.addEventListener("toggle", () => { if (all.open && all.children.length === 1) all.append(lensTable()); });
  return card("What each layer would say", about, list, all);
}

function lensTable() {
  const cells = [], head = el("tr", {}, el("th", {}, "after"), ...data.tokens.map((token) => el("td", { class: "mono small" }, plain(token.text))));
  const rows = layerNames.map((name, layer) => el("tr", {}, el("th", {}, name), ...data.tokens.map((token, i) => {
    const id = data.lens.ids[layer][i][0], p = data.lens.probabilities[layer][i][0];
    const right = i + 1 < T && data.tokens[i + 1].id === id ? " right" : "";
    const button = el("button", { type: "button", tabindex: -1, "--warmth": `${100 * p}%`, title: `${name}: ${plain(textOf(id))} ${probability(p)}`, onclick: () => select(i) }, plain(textOf(id)));
    const cell = el("td", { class: right }, button);
    cells.push([cell, i, right]);
    return cell;
  })));
  watch(() => cells.forEach(([cell, i, right]) => { cell.className = right + (i === state.token ? " chosen" : ""); }));
  return el("div", { class: "scroll lens", tabindex: 0, role: "region", "aria-label": "what each layer would say after each token" }, el("table", {}, head, ...rows));
}

// ---------------------------------------------------------------- the residual stream

function norms() {
  const holder = el("div");
  watch(() => {
    const i = state.token, at = (rows) => rows.map((row, layer) => [layer, row[i]]);
    const series = [
      { name: "residual stream", color: "--series-0", points: at(data.norms.residual) },
      { name: "attention adds", color: "--series-1", points: data.norms.attention.map((row, layer) => [layer + 1, row[i]]) },
      { name: "feed-forward adds", color: "--series-2", points: data.norms.feed_forward.map((row, layer) => [layer + 1, row[i]]) },
    ];
    holder.replaceChildren(
      el("p", { class: "small" }, "of ", el("span", { class: "mono" }, piece(data.tokens[i].text))), legend(series),
      lineChart(series, { x: "blocks so far", y: "length", label: "lengths of the residual stream and of what each block adds to it" }));
  });
  const about = "Each token has a vector that runs through the model; attention and feed-forward of each block add to it. These are the lengths." +
    (data.model.norm_first ? "" : " This model normalizes the vector after each addition.");
  return card("The residual stream", about, holder);
}

// ---------------------------------------------------------------- the loss in six steps

function lossSteps() {
  const steps = data.loss_steps;
  if (!steps) return card("The loss in six steps", "A loss needs at least two tokens: one to read, one to guess.");
  const shown = Math.min(steps.target_ids.length, 8), more = steps.target_ids.length - shown;
  const rest = more ? `… and ${count(more)} more` : null;
  const matrix = (values, of) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "table" }, el("table", {},
    el("tr", {}, el("th", {}, "after"), ...steps.columns.map((id) => el("th", { class: "figure mono" }, plain(textOf(id)))), el("th", {}, "…"), el("th", { class: "figure" }, "what comes")),
    ...values.slice(0, shown).map((row, t) => el("tr", {}, el("td", { class: "mono" }, plain(data.tokens[t].text)),
      ...row.map((v) => el("td", { class: "figure" }, of(v))), el("td", {}, "…"),
      el("td", { class: "figure target" }, of((values === steps.logits ? steps.target_logits : steps.target_probabilities)[t]))))), rest && el("p", { class: "small soft" }, rest));
  const vector = (values, of) => el("div", { class: "vector" }, ...values.slice(0, shown).map((v, t) =>
    el("span", {}, el("b", { class: "mono" }, plain(textOf(steps.target_ids[t]))), ` ${of(v)}`)), rest && el("span", {}, rest));
  const V = count(data.model.vocab_size), n = steps.target_ids.length;
  const step = (k, title, formula, ...content) => el("li", { "data-number": k }, el("b", {}, title), el("span", { class: "formula" }, formula), el("div", { style: "margin-top:6px" }, ...content));
  return card("The loss in six steps", "From the output head's numbers to the one number that training makes smaller.",
    el("ol", { class: "steps" },
      step(1, "Logits", `(${n}, ${V}): a number for each token that could come next`, matrix(steps.logits, number)),
      step(2, "Probabilities", "softmax: e^z / Σ e^z, each row sums to 1", matrix(steps.probabilities, probability)),
      step(3, "Target probabilities", `(${n}): those of the tokens that do come`, vector(steps.target_probabilities, probability)),
      step(4, "Logarithms", `(${n}): log p`, vector(steps.log_probabilities, number)),
      step(5, "Mean", "of all of them", el("span", { class: "result" }, number(steps.mean))),
      step(6, "Negative: the loss", "in nats per token; e to its power is the perplexity",
        el("span", { class: "result" }, number(steps.loss)), el("span", { class: "formula" }, `perplexity ${number(data.perplexity, 2)}`))));
}

// ---------------------------------------------------------------- nearest passages

function nearest() {
  if (!data.nearest) return null;
  const about = "The passages of the training text that share the most telling runs of tokens with this one. Bits say how telling: rare words count for more.";
  const rows = data.nearest.map((row) => el("div", { class: "passage" },
    el("div", {}, el("span", { class: "soft" }, "… ", row.before), el("mark", {}, row.shared), el("span", { class: "soft" }, row.after, " …")),
    el("div", { class: "small soft figure" }, `${row.length} tokens, ${row.bits.toFixed(0)} bits; from token ${count(row.train_start)} of ${count(data.train_tokens)}`)));
  return card("Nearest in the training text", about, ...(rows.length ? rows : [el("p", { class: "soft" }, "It shares no two tokens in a row with the training text.")]));
}

// ---------------------------------------------------------------- the page

function stays() {
  const what = el("div", { class: "what small", "aria-live": "polite" });
  watch(() => what.replaceChildren(`token ${state.token + 1} of ${T}: `, el("span", { class: "mono" }, piece(data.tokens[state.token].text))));
  return el("div", { class: "stays" }, el("div", { class: "inner" },
    el("button", { type: "button", "aria-label": "previous token", onclick: () => select(state.token - 1) }, "◀"), what,
    el("button", { type: "button", "aria-label": "next token", onclick: () => select(state.token + 1) }, "▶")));
}

function start() {
  const m = data.model;
  document.body.append(
    el("header", {}, el("h1", {}, `Inside ${m.name}`),
      el("p", { class: "soft" }, data.prompt_tokens < T ? "while it reads a text and continues it" : "while it reads a text"),
      facts(`${count(m.parameters)} parameters`, `${L} blocks × ${N} heads`, `width ${m.embed_dim}`, `vocabulary ${count(m.vocab_size)}`,
        data.loss == null ? "no loss: a single token" : `loss ${number(data.loss)} nats`, data.loss == null ? "" : `perplexity ${number(data.perplexity, 2)}`),
      ...notices(data.notices)),
    stays(),
    el("main", {}, reading(), attentionCard(), lens(), norms(), lossSteps(), nearest()),
    el("footer", {}, `Written by minigpt inspect ${data.version}. The page is one file and asks no server for anything.`));
}

start();
