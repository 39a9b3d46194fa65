// How runs went: the page of `minigpt inspect --history`.

const COLORS = 6;
const colorOf = (i) => `--series-${i % COLORS}`;
const CHARTS = [
  ["Loss", "nats", [["loss", "training", false], ["val_loss", "validation", true]], "Mean loss since the evaluation before; dashed is the validation split."],
  ["Accuracy", "fraction", [["accuracy", "accuracy", false]], "Fraction of the training targets that were the most likely token."],
  ["Learning rate", "rate", [["learning_rate", "rate", false]], "What the schedule gave at each evaluation."],
  ["Gradient norm", "length", [["gradient_norm", "gradient norm", false]], "Mean length of the whole gradient, before clipping. Runs of earlier versions did not record it."],
  ["Speed", "tokens/s", [["tokens_per_second", "tokens/s", false]], "Of training, without evaluations."],
];
let axis = "step";

function chartOf([title, unit, columns, about]) {
  const holder = el("div");
  const draw = () => {
    const several = data.runs.length > 1;
    const series = data.runs.flatMap((run, i) => columns.map(([column, name, dashed]) => ({
      name: several ? `${run.name}, ${name}` : name,
      color: several ? colorOf(i) : colorOf(dashed ? 1 : 0),
      dashed,
      points: run.rows.map((row) => [row[axis], row[column]]),
    })));
    const drawn = series.filter((s) => s.points.some((p) => p[1] != null));
    holder.replaceChildren(...(drawn.length && (several || columns.length > 1) ? [legend(drawn)] : []),
      lineChart(series, { x: axis, y: unit, label: `${title} over ${axis}` }));
  };
  draw();
  return { card: card(title, about, holder), draw };
}

function samples() {
  const steps = [...new Set(data.runs.flatMap((run) => run.samples.map((sample) => sample.step)))].sort((a, b) => a - b);
  if (!steps.length) return card("What it wrote", "These runs have no samples.");
  const slider = el("input", { type: "range", min: 0, max: steps.length - 1, value: steps.length - 1, "aria-label": "step of the sample", style: "width:100%" });
  const said = el("p", { class: "small figure", "aria-live": "polite" }), texts = el("div");
  const draw = () => {
    const step = steps[slider.value];
    said.textContent = `step ${count(step)}`;
    texts.replaceChildren(...data.runs.map((run, i) => {
      const sample = run.samples.filter((s) => s.step <= step).pop();
      const head = el("div", { class: "small" }, el("span", { class: "legend" }, el("span", {}, el("span", { class: "dot", style: `background:var(${colorOf(i)})` }), run.name, sample ? `, step ${count(sample.step)}, prompt ${sample.prompt}` : "")));
      return el("div", { class: "passage sample" }, head, el("div", { style: "white-space:pre-wrap" }, sample ? sample.text : "nothing yet"));
    }));
  };
  slider.addEventListener("input", draw);
  draw();
  return card("What it wrote", "A sample of each evaluation. Move the slider to see the model learn.", slider, said, texts);
}

function last(run, name) {
  const row = run.rows[run.rows.length - 1];
  return row[name];
}

function table() {
  const head = ["run", "steps", "epochs", "minutes", "loss", "validation loss", "accuracy", "gradient norm"];
  const rows = data.runs.map((run, i) => el("tr", {},
    el("td", {}, el("span", { class: "legend" }, el("span", {}, el("span", { class: "dot", style: `background:var(${colorOf(i)})` }), run.name))),
    ...[count(last(run, "step")), number(last(run, "epoch"), 2), last(run, "seconds") == null ? "–" : number(last(run, "seconds") / 60, 1), number(last(run, "loss")), number(last(run, "val_loss")),
      number(last(run, "accuracy"), 3), number(last(run, "gradient_norm"), 3)].map((text) => el("td", { class: "figure" }, text))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "the last evaluation of each run" },
    el("table", {}, el("tr", {}, ...head.map((name, i) => el("th", { class: i ? "figure" : "" }, name))), ...rows));
}

function thinned() {
  const runs = data.runs.filter((run) => run.evaluations > run.rows.length);
  const counts = runs.map((run) => `${count(run.rows.length)} of the ${count(run.evaluations)} evaluations of ${run.name}`);
  return runs.length ? ` Drawn are ${counts.join(", ")}: those that a curve of this width can show, with every highest and lowest value.` : "";
}

function start() {
  const extra = [...new Set(data.runs.flatMap((run) => run.metrics))].map((name) => [name, "", [[name, name, false]], "On the validation split."]);
  const charts = [...CHARTS, ...extra].map(chartOf);
  const choice = el("select", { id: "axis", onchange: () => { axis = choice.value; charts.forEach((chart) => chart.draw()); } },
    ...["step", "epoch", "seconds"].map((name) => el("option", { value: name }, name)));
  document.body.append(
    el("header", {}, el("h1", {}, data.runs.length > 1 ? `How ${data.runs.length} runs went` : `How ${data.runs[0].name} learned`),
      el("p", { class: "soft" }, `Touch a curve to read its numbers.${thinned()}`)),
    el("main", {}, card("At the end", "The last evaluation of each run.", table(), el("p", {}), el("label", { class: "choice small" }, "Horizontal axis ", choice)),
      ...charts.slice(0, 1).map((c) => c.card), samples(), el("div", { class: "pairs" }, ...charts.slice(1).map((c) => c.card))),
    el("footer", {}, `Written by minigpt inspect ${data.version}. The page is one file and asks no server for anything.`));
  document.body.dataset.ready = "yes";
}

start();
