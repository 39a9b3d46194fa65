// A GPT in plain JavaScript: reads model.bin, as `minigpt export --format web` writes it.
// model.c of `--format c` is the same program with more comments.

const BLOCK = 32;
const blocks = (columns) => Math.ceil(columns / BLOCK);

// ---------------------------------------------------------------- the file

export class File {
  constructor(buffer) {
    const bytes = new Uint8Array(buffer);
    let end = 0;
    while (end < bytes.length && !(bytes[end] === 10 && bytes[end + 1] === 10)) end++;
    const lines = new TextDecoder().decode(bytes.subarray(0, end)).split("\n");
    if (lines.shift() !== "MGPT1") throw new Error("model.bin is not what minigpt export --format web writes");
    const start = Math.ceil((end + 2) / 64) * 64;
    this.buffer = buffer;
    this.settings = new Map();
    this.places = new Map();
    for (const line of lines) {
      const words = line.split(" ");
      if (words[0] === "array") this.places.set(words[1], { kind: words[2], rows: +words[3], columns: +words[4], start: start + +words[5] });
      else this.settings.set(words[0], line.slice(words[0].length + 1));
    }
  }
  text(name) { return this.settings.get(name); }
  number(name) { return Number(this.settings.get(name)); }
  values(name) {
    const place = this.places.get(name);
    if (!place) return null;
    const { kind, rows, columns, start } = place;
    if (kind === "q8") return new Int8Array(this.buffer, start, rows * blocks(columns) * BLOCK);
    const Kind = { f32: Float32Array, i32: Int32Array, u8: Uint8Array }[kind];
    return new Kind(this.buffer, start, rows * columns);
  }
  ids(name) { return Array.from(this.values(name) ?? []); }
  table(name) {
    const flat = this.ids(name), columns = this.places.get(name)?.columns ?? 1;
    return Array.from({ length: flat.length / columns }, (_, i) => flat.slice(i * columns, (i + 1) * columns));
  }
}

// ---------------------------------------------------------------- layers

class Matrix {
  constructor(file, name) {
    Object.assign(this, file.places.get(name));
    this.values = file.values(name);
    this.factors = file.values(`${name}/factors`);
  }
  row(number, out) {
    const width = this.factors ? blocks(this.columns) * BLOCK : this.columns, start = number * width;
    for (let i = 0; i < this.columns; i++) out[i] = this.values[start + i] * (this.factors ? this.factors[(start + i) >> 5] : 1);
  }
  times(x, out, bias) {
    return this.factors ? this.timesBlocks(x, out, bias) : this.timesFloats(x, out, bias);
  }
  timesFloats(x, out, bias) {
    const { rows, columns, values } = this, whole = columns - columns % 4;
    for (let row = 0, at = 0; row < rows; row++, at += columns) {
      let a = 0, b = 0, c = 0, d = 0;
      for (let i = 0; i < whole; i += 4) {
        a += values[at + i] * x[i];
        b += values[at + i + 1] * x[i + 1];
        c += values[at + i + 2] * x[i + 2];
        d += values[at + i + 3] * x[i + 3];
      }
      for (let i = whole; i < columns; i++) a += values[at + i] * x[i];
      out[row] = a + b + c + d + (bias ? bias[row] : 0);
    }
  }
  timesBlocks(x, out, bias) {
    const { rows, columns, values, factors } = this, width = blocks(columns) * BLOCK;
    for (let row = 0, at = 0; row < rows; row++, at += width) {
      let sum = 0;
      for (let block = 0; block < columns; block += BLOCK) {
        const last = Math.min(columns, block + BLOCK);
        let a = 0, b = 0;
        for (let i = block; i + 1 < last; i += 2) {
          a += values[at + i] * x[i];
          b += values[at + i + 1] * x[i + 1];
        }
        if (last % 2) a += values[at + last - 1] * x[last - 1];
        sum += (a + b) * factors[(at + block) >> 5];
      }
      out[row] = sum + (bias ? bias[row] : 0);
    }
  }
}

class Dense {
  constructor(file, path) {
    this.kernel = new Matrix(file, `${path}/kernel`);
    this.bias = file.values(`${path}/bias`);
    this.out = new Float32Array(this.kernel.rows);
  }
  of(x) {
    this.kernel.times(x, this.out, this.bias);
    return this.out;
  }
}

// Layer normalization, or without its mean the RMS norm.
class Norm {
  static at(file, path, centered) {
    const scale = file.values(`${path}/gamma`) ?? file.values(`${path}/scale`);
    return scale && Object.assign(new Norm(), { scale, shift: file.values(`${path}/beta`), centered, epsilon: file.number("norm_epsilon") });
  }
  of(x, out = new Float32Array(x.length)) {
    let mean = 0, variance = 0;
    if (this.centered) for (const v of x) mean += v / x.length;
    for (const v of x) variance += (v - mean) ** 2 / x.length;
    const factor = 1 / Math.sqrt(variance + this.epsilon);
    for (let i = 0; i < x.length; i++) out[i] = (x[i] - mean) * factor * this.scale[i] + (this.shift ? this.shift[i] : 0);
    return out;
  }
  ofHeads(heads) { // of each, or of all together
    for (let i = 0; i < heads.length; i += this.scale.length) {
      const part = heads.subarray(i, i + this.scale.length);
      this.of(part, part);
    }
  }
}

function erf(x) { // Abramowitz and Stegun, 1964, formula 7.1.26
  const size = Math.abs(x), t = 1 / (1 + 0.3275911 * size);
  const p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - p * Math.exp(-size * size));
}

const ACTIVATIONS = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(0.7978845608 * (x + 0.044715 * x ** 3))),
  relu2: (x) => Math.max(x, 0) ** 2,
  relu: (x) => Math.max(x, 0),
};

function softmax(x) {
  let most = -Infinity, total = 0;
  for (const v of x) most = Math.max(most, v);
  for (let i = 0; i < x.length; i++) total += x[i] = Math.exp(x[i] - most);
  for (let i = 0; i < x.length; i++) x[i] /= total;
}

// Each head's first half is rotated with its second half.
function rotate(heads, H, position, frequencies) {
  for (let i = 0; i < H / 2; i++) {
    const angle = position * frequencies[2 * i] + position * frequencies[2 * i + 1], c = Math.cos(angle), s = Math.sin(angle);
    for (let start = 0; start < heads.length; start += H) {
      const a = heads[start + i], b = heads[start + i + H / 2];
      heads[start + i] = a * c - b * s;
      heads[start + i + H / 2] = b * c + a * s;
    }
  }
}

class Layer {
  constructor(model, number) {
    const { file } = model, block = `block_${number}/`, centered = file.text("norm") === "layer";
    this.model = model;
    this.kind = file.text("layer_kinds")[number];
    [this.q, this.k, this.v, this.out] = ["query", "key", "value", "attention_output"].map((n) => new Dense(file, `${block}attention/${n}`));
    [this.qNorm, this.kNorm] = ["query", "key"].map((n) => Norm.at(file, `${block}attention/${n}_norm`, false));
    this.gate = model.gated ? new Dense(file, `${block}feed_forward_gate`) : null;
    [this.up, this.down] = ["up", "down"].map((n) => new Dense(file, `${block}feed_forward_${n}`));
    this.norms = ["attention", "feed_forward"].map((n) => ["", "_output"].map((end) => Norm.at(file, `${block}${n}${end}_norm`, centered)));
    this.keys = [];
    this.values = [];
  }
  attend(x, position) {
    const m = this.model, { H } = m, q = this.q.of(x), k = this.k.of(x);
    this.qNorm?.ofHeads(q);
    this.kNorm?.ofHeads(k);
    const frequencies = (this.kind === "L" && m.localFrequencies) || m.frequencies;
    if (frequencies && this.kind !== "N") [q, k].forEach((heads) => rotate(heads, H, position, frequencies));
    this.keys[position] = k.slice();
    this.values[position] = this.v.of(x).slice();
    const first = this.kind === "L" ? Math.max(0, position + 1 - m.window) : 0, mixed = new Float32Array(m.N * H);
    const scores = new Float64Array(position + 1 - first);
    for (let head = 0; head < m.N; head++) {
      const shared = Math.floor(head / (m.N / m.K)) * H, start = head * H;
      for (let t = 0; t < scores.length; t++) {
        const key = this.keys[first + t];
        let sum = 0;
        for (let i = 0; i < H; i++) sum += q[start + i] * key[shared + i];
        sum /= Math.sqrt(H);
        scores[t] = m.attentionCap ? m.attentionCap * Math.tanh(sum / m.attentionCap) : sum;
      }
      softmax(scores);
      for (let t = 0; t < scores.length; t++) {
        const value = this.values[first + t], weight = scores[t];
        for (let i = 0; i < H; i++) mixed[start + i] += weight * value[shared + i];
      }
    }
    return this.out.of(mixed);
  }
  feedForward(x) {
    const up = this.up.of(x), gate = this.gate?.of(x), { activate } = this.model;
    for (let i = 0; i < up.length; i++) up[i] = gate ? up[i] * activate(gate[i]) : activate(up[i]);
    return this.down.of(up);
  }
  step(x, position) {
    this.norms.forEach(([norm, behind], i) => {
      const before = norm && !this.model.after ? norm.of(x) : x;
      let update = i ? this.feedForward(before) : this.attend(before, position);
      if (behind) update = behind.of(update);
      for (let j = 0; j < x.length; j++) x[j] += update[j];
      if (this.model.after) norm.of(x, x);
    });
  }
}

export class Model {
  constructor(file) {
    const number = (name) => file.number(name);
    this.file = file;
    [this.N, this.K, this.H] = ["num_heads", "num_kv_heads", "head_dim"].map(number);
    [this.context, this.window] = ["context_length", "window"].map(number);
    this.after = file.text("norm_placement") === "after";
    this.gated = number("gated");
    this.activate = ACTIVATIONS[file.text("activation")];
    [this.attentionCap, this.logitsCap, this.scale] = ["attention_softcap", "logits_softcap", "embedding_scale"].map(number);
    this.frequencies = file.values("rotary");
    this.localFrequencies = file.values("rotary_local");
    this.embedding = new Matrix(file, "token_embedding/embeddings");
    this.positions = file.values("position_encoding/embeddings");
    this.finalNorm = Norm.at(file, "final_norm", file.text("norm") === "layer");
    this.head = file.places.has("logits/kernel") ? new Dense(file, "logits") : null;
    this.logits = new Float32Array(this.embedding.rows);
    this.layers = Array.from({ length: number("num_layers") }, (_, i) => new Layer(this, i));
  }
  forward(token, position, wanted = true) {
    const x = new Float32Array(this.embedding.columns);
    this.embedding.row(token, x);
    for (let i = 0; i < x.length; i++) x[i] = x[i] * this.scale + (this.positions ? this.positions[position * x.length + i] : 0);
    for (const layer of this.layers) layer.step(x, position);
    if (!wanted) return null;
    const last = this.finalNorm ? this.finalNorm.of(x) : x, cap = this.logitsCap;
    const logits = this.head ? this.head.of(last) : this.logits;
    if (!this.head) this.embedding.times(last, logits);
    if (cap) for (let i = 0; i < logits.length; i++) logits[i] = cap * Math.tanh(logits[i] / cap);
    return logits;
  }
}

// ---------------------------------------------------------------- tokens

const WORDS = {
  gpt2: () => /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\t\n\v\f\r\x85\p{Z}\p{L}\p{N}]+|[\t\n\v\f\r\x85\p{Z}]+(?![^\t\n\v\f\r\x85\p{Z}])|[\t\n\v\f\r\x85\p{Z}]+/gu,
  tiktoken: (digits) => new RegExp(String.raw`'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,${digits}}| ?[^\t\n\v\f\r\x85\p{Z}\p{L}\p{N}]+[\r\n]*|[\t\n\v\f\r\x85\p{Z}]*[\r\n]+|[\t\n\v\f\r\x85\p{Z}]+(?![^\t\n\v\f\r\x85\p{Z}])|[\t\n\v\f\r\x85\p{Z}]+`, "gu"),
};

export class Tokens {
  constructor(file) {
    const starts = file.ids("token_starts"), texts = file.values("token_texts"), latin = (bytes) => String.fromCharCode(...bytes);
    this.file = file;
    this.kind = file.text("tokenizer");
    this.bytes = (id) => texts.subarray(starts[id], starts[id + 1]);
    this.lower = new Map(file.table("lower"));
    this.characters = new Map(file.table("characters"));
    this.separators = new Set(file.ids("separators"));
    this.whole = new Map(file.ids("order").map((id) => [latin(this.bytes(id)), id]));
    this.special = file.ids("special").map((id) => [new TextDecoder().decode(this.bytes(id)), id]);
    this.byteIds = file.ids("byte_ids");
    this.ranks = new Map(file.table("merges").map(([a, b, rank, made]) => [a * 2 ** 26 + b, [rank, made]]));
    this.unknown = this.kind === "word" || this.kind === "char" ? file.number("unknown_id") : -1;
    this.latin = latin;
  }
  encode(text, message = false) {
    const ids = [];
    let start = 0;
    for (let at = 0; at < text.length && !message; at++) {
      const found = this.special.find(([name]) => name && text.startsWith(name, at));
      if (!found) continue;
      ids.push(...this.plain(text.slice(start, at)), found[1]);
      start = at + found[0].length;
      at = start - 1;
    }
    return [...ids, ...this.plain(text.slice(start))];
  }
  plain(text) {
    if (!text) return [];
    const utf8 = new TextEncoder();
    if (this.kind === "bytes") return this.cut(text).flatMap((word) => this.word(utf8.encode(word)));
    const pieces = this.kind === "pieces";
    if (pieces) text = (this.file.number("space_prefix") ? " " + text : text).replaceAll(" ", "\u2581");
    const codes = [...text].map((c) => this.lower.get(c.codePointAt(0)) ?? c.codePointAt(0));
    if (this.kind === "word") {
      const words = codes.map((code) => this.separators.has(code) ? " " : String.fromCodePoint(code)).join("").split(" ");
      return words.filter(Boolean).map((word) => this.whole.get(this.latin(utf8.encode(word))) ?? this.unknown).filter((id) => id >= 0);
    }
    const ids = codes.flatMap((code) => this.characters.has(code) ? [this.characters.get(code)]
      : pieces ? Array.from(utf8.encode(String.fromCodePoint(code)), (byte) => this.byteIds[byte])
        : this.unknown >= 0 ? [this.unknown] : []);
    return pieces ? this.merged(ids) : ids;
  }
  word(bytes) {
    const whole = this.whole.get(this.latin(bytes));
    return whole === undefined ? this.merged(Array.from(bytes, (byte) => this.byteIds[byte])) : [whole];
  }
  merged(ids) {
    for (;;) {
      let best = null, place = 0;
      for (let i = 0; i + 1 < ids.length; i++) {
        const found = this.ranks.get(ids[i] * 2 ** 26 + ids[i + 1]);
        if (found && (!best || found[0] < best[0])) [best, place] = [found, i];
      }
      if (!best) return ids;
      ids.splice(place, 2, best[1]);
    }
  }
  cut(text) {
    const parts = this.file.number("digits_alone") ? text.split(/(\p{N})/u) : [text];
    return parts.flatMap((part) => part.match(WORDS[this.file.text("cut")](this.file.number("digits"))) ?? []);
  }
  decode(ids) {
    const joint = this.kind === "word" ? [32] : [];
    const bytes = ids.flatMap((id, i) => [...(i ? joint : []), ...this.bytes(id)]);
    return new TextDecoder().decode(new Uint8Array(bytes));
  }
}

// ---------------------------------------------------------------- writing

export function choose(logits, suppressed, temperature, topP, random = Math.random) {
  for (const id of suppressed) logits[id] = -Infinity;
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  if (!(temperature > 0)) return best;
  const chances = Float64Array.from(logits, (v) => v / temperature);
  softmax(chances);
  const order = Array.from(chances.keys()).sort((a, b) => chances[b] - chances[a]);
  let total = 0, count = 0;
  while (count < order.length && total < topP) total += chances[order[count++]];
  let left = random() * total;
  for (const id of order.slice(0, count)) if ((left -= chances[id]) < 0) return id;
  return best;
}

// Yields the ids of a continuation. Throws an Error for a text that is too long.
export function* generate(file, tokens, text, { chat = false, count = 100, temperature = 0, topP = 0.95 } = {}) {
  const asked = tokens.encode(text, chat);
  let ids = [...file.ids(chat ? "chat_before" : "prefix_ids"), ...asked, ...(chat ? file.ids("chat_after") : [])];
  if (!asked.length && !chat) ids = file.ids("start_ids");
  const model = new Model(file), ends = new Set(file.ids("end_ids")), suppressed = file.ids("suppressed");
  if (ids.length > model.context) throw new Error(`The text has ${ids.length} tokens; the model's context has ${model.context}.`);
  let logits = null, first = 0, seen = 0; // the model sees the ids from `first` on
  for (let written = 0; written < count; written++) {
    if (seen - first === model.context) seen = first = ids.length - Math.max(1, Math.floor(model.context / 2)); // the newer half is a prompt
    for (; seen < ids.length; seen++) logits = model.forward(ids[seen], seen - first, seen + 1 === ids.length);
    const id = choose(logits, suppressed, temperature, topP);
    if (ends.has(id)) return;
    ids.push(id);
    yield id;
  }
}
