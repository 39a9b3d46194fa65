// Lines over an axis, drawn at the width that there is.

function ticks(low, high, most) {
  const raw = (high - low) / most, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * size).find((s) => s >= raw) || size;
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return found;
}

function tickText(v) {
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size >= 1e4) return `${+(v / 1e3).toPrecision(3)}k`;
  return size < 1e-3 ? v.toExponential(0).replace("-", "−") : String(+v.toPrecision(3)).replace("-", "−");
}

// series: {name, color, points: [[x, y], ...], dashed}. Points without a y are left out.
function lineChart(series, { x: xName, y: yName, height = 240, label }) {
  const lines = series.map((s) => ({ ...s, points: s.points.filter((p) => p[1] != null && Number.isFinite(p[1])) }))
    .filter((s) => s.points.length);
  const drawing = svg("svg", { role: "img", "aria-label": label });
  const readout = el("div", { class: "readout", "aria-live": "polite" });
  const box = el("div", { class: "chart" }, drawing, readout);
  if (!lines.length) return el("p", { class: "soft" }, "not recorded in this run");
  const all = lines.flatMap((s) => s.points), xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
  const least = (values) => values.reduce((a, b) => Math.min(a, b)), most = (values) => values.reduce((a, b) => Math.max(a, b));
  const left = least(xs), right = Math.max(most(xs), left + 1e-9); // a long run has more points than a call takes
  const low = Math.min(0, least(ys)), high = Math.max(0, most(ys)) * 1.05 || (low < 0 ? 0 : 1);
  const margin = { left: 52, right: 14, top: 10, bottom: 36 };
  let width = 0, placeX, placeY, cursor;

  function draw() {
    width = Math.max(260, box.clientWidth || 600);
    placeX = (v) => margin.left + ((v - left) / (right - left)) * (width - margin.left - margin.right);
    placeY = (v) => height - margin.bottom - ((v - low) / (high - low)) * (height - margin.top - margin.bottom);
    drawing.replaceChildren();
    drawing.setAttribute("width", width);
    drawing.setAttribute("height", height);
    for (const v of ticks(low, high, 5)) {
      drawing.append(svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: placeY(v), y2: placeY(v) }));
      drawing.append(svg("text", { x: margin.left - 7, y: placeY(v) + 4, "text-anchor": "end" }, tickText(v)));
    }
    for (const v of ticks(left, right, width < 420 ? 4 : 8)) {
      drawing.append(svg("text", { x: placeX(v), y: height - margin.bottom + 17, "text-anchor": "middle" }, tickText(v)));
    }
    drawing.append(svg("text", { x: width - margin.right, y: height - 3, "text-anchor": "end" }, xName));
    drawing.append(svg("text", { x: 2, y: height - 3 }, yName));
    for (const s of lines) {
      const path = s.points.map((p, i) => `${i ? "L" : "M"}${placeX(p[0]).toFixed(1)},${placeY(p[1]).toFixed(1)}`).join("");
      const dash = s.dashed ? { "stroke-dasharray": "6 4" } : {};
      drawing.append(svg("path", { class: "curve", d: path, stroke: `var(${s.color})`, ...dash }));
      if (s.points.length < 60) {
        for (const p of s.points) drawing.append(svg("circle", { cx: placeX(p[0]), cy: placeY(p[1]), r: 2.6, fill: `var(${s.color})` }));
      }
    }
    cursor = svg("line", { class: "axis", y1: margin.top, y2: height - margin.bottom, visibility: "hidden" });
    drawing.append(cursor);
  }

  function show(clientX) {
    const scale = width / drawing.getBoundingClientRect().width;
    const at = (clientX - drawing.getBoundingClientRect().left) * scale;
    const nearest = all.reduce((best, p) => (Math.abs(placeX(p[0]) - at) < Math.abs(placeX(best[0]) - at) ? p : best));
    cursor.setAttribute("x1", placeX(nearest[0]));
    cursor.setAttribute("x2", placeX(nearest[0]));
    cursor.setAttribute("visibility", "visible");
    const values = lines.flatMap((s) => {
      const point = s.points.find((p) => p[0] === nearest[0]);
      return point ? [`${s.name} ${number(point[1])}`] : [];
    });
    readout.textContent = `${xName} ${tickText(nearest[0])}: ${values.join(" · ")}`;
  }

  drawing.addEventListener("pointermove", (event) => show(event.clientX));
  new ResizeObserver(() => { if (Math.max(260, box.clientWidth) !== width) draw(); }).observe(box);
  requestAnimationFrame(draw);
  return box;
}

function legend(items) {
  return el("div", { class: "legend" }, ...items.map((item) =>
    el("span", {}, el("span", { class: "dot", style: `background:var(${item.color})` }), item.name)));
}
