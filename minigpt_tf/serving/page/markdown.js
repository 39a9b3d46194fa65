// Markdown as elements with text nodes. A model's answer is never parsed as HTML; images are not
// loaded, and a link is only made of an http, https or mailto address.

import { copy, element, iconButton } from "./dom.js";

const DEEPEST = 6; // nested quotes, lists and emphasis
const LONGEST = 100_000; // characters that are formatted; a longer text is shown as it is
const LONGEST_LINE = 2000; // characters of a line whose kind is looked at
const FENCE = /^ {0,3}(`{3,}|~{3,}) *([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const QUOTE = /^ {0,3}> ?/;
const TABLE_RULE = /^ *\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/;

/** Nodes of a text in Markdown. */
export function markdown(text) {
  if (text.length > LONGEST) return [element("pre", { class: "plain" }, text)];
  return blocks(text.replaceAll("\t", "    ").split("\n"), 0);
}

function blocks(lines, depth) {
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    let match;
    if (!line.trim()) at += 1;
    else if (line.length > LONGEST_LINE) {
      nodes.push(element("p", {}, ...paragraph([line], depth)));
      at += 1;
    } else if ((match = FENCE.exec(line))) {
      const [, fence, language] = match;
      let end = at + 1;
      while (end < lines.length && !closes(lines[end], fence)) end += 1;
      nodes.push(codeBlock(lines.slice(at + 1, end).join("\n"), language));
      at = end + 1;
    } else if ((match = HEADING.exec(line))) {
      nodes.push(element(`h${Math.min(match[1].length + 1, 6)}`, {}, ...inline(match[2], depth)));
      at += 1;
    } else if (RULE.test(line)) {
      nodes.push(element("hr"));
      at += 1;
    } else if (depth < DEEPEST && QUOTE.test(line)) {
      let end = at;
      while (end < lines.length && QUOTE.test(lines[end])) end += 1;
      const inside = lines.slice(at, end).map((quoted) => quoted.replace(QUOTE, ""));
      nodes.push(element("blockquote", {}, ...blocks(inside, depth + 1)));
      at = end;
    } else if (depth < DEEPEST && ITEM.test(line)) {
      const [list, end] = listFrom(lines, at, depth);
      nodes.push(list);
      at = end;
    } else if (line.includes("|") && (lines[at + 1] ?? "").length <= LONGEST_LINE && TABLE_RULE.test(lines[at + 1] ?? "x") && lines[at + 1].includes("-")) {
      let end = at + 2;
      while (end < lines.length && lines[end].includes("|")) end += 1;
      nodes.push(table(lines.slice(at, end), depth));
      at = end;
    } else {
      let end = at + 1;
      while (end < lines.length && lines[end].trim() && !interrupts(lines[end])) end += 1;
      nodes.push(element("p", {}, ...paragraph(lines.slice(at, end), depth)));
      at = end;
    }
  }
  return nodes;
}

const interrupts = (line) =>
  line.length > LONGEST_LINE || [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));

function closes(line, fence) {
  const bare = line.trim();
  return bare.length >= fence.length && bare === fence[0].repeat(bare.length);
}

function paragraph(lines, depth) {
  return lines.flatMap((line, index) => [...(index ? [element("br")] : []), ...inline(line.trim(), depth)]);
}

function codeBlock(text, language) {
  const button = iconButton("copy", "Copy the code", () => copy(text, button));
  const head = element("div", { class: "code-head" }, element("span", {}, language || "text"), button);
  return element("div", { class: "code" }, head, element("pre", { tabindex: "0" }, element("code", {}, text)));
}

function listFrom(lines, at, depth) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const start = ordered ? parseInt(ITEM.exec(lines[at])[2], 10) : null;
  const margin = ITEM.exec(lines[at])[1].length;
  const items = [];
  let inside = null;
  while (at < lines.length) {
    const line = lines[at];
    const match = ITEM.exec(line);
    if (match && match[1].length <= margin + 1) {
      if (/\d/.test(match[2]) !== ordered || match[1].length < margin) break;
      items.push((inside = [match[4]]));
    } else if (!line.trim()) {
      const next = lines.slice(at + 1).find((other) => other.trim());
      if (!next || (!/^ {2,}/.test(next) && !ITEM.test(next))) break;
      inside.push("");
    } else if (/^ {2,}/.test(line)) inside.push(line.replace(new RegExp(`^ {1,${margin + MARKER}}`), ""));
    else if (!lines[at - 1].trim() || interrupts(line)) break;
    else inside.push(line);
    at += 1;
  }
  const made = items.map((item) => element("li", {}, ...unwrapped(blocks(item, depth + 1))));
  return [element(ordered ? "ol" : "ul", ordered && start !== 1 ? { start } : {}, ...made), at];
}

const MARKER = 3; // columns of a marker, by which the lines below it are indented

/** The contents of a paragraph that is alone, or first: an item needs no space around its text. */
function unwrapped(nodes) {
  const [first, ...others] = nodes;
  return first?.tagName === "P" ? [...first.childNodes, ...others] : nodes;
}

function table(lines, depth) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, tag) => element("tr", {}, ...cells(line).map((cell) => element(tag, {}, ...inline(cell, depth))));
  const body = lines.slice(2).map((line) => row(line, "td"));
  const head = element("thead", {}, row(lines[0], "th"));
  return element("div", { class: "table", tabindex: "0" }, element("table", {}, head, element("tbody", {}, ...body)));
}

const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const isWord = (character) => character !== undefined && /[\p{L}\p{N}]/u.test(character);

/** Text with code, emphasis and links, as nodes. */
function inline(text, depth) {
  const nodes = [];
  const absent = new Set(); // marks that do not occur again: each is looked for once
  let plain = "";
  let at = 0;
  const push = (node, end) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(node);
    at = end;
  };
  while (at < text.length) {
    const character = text[at];
    if (character === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    const found =
      (character === "`" && codeAt(text, at, absent)) ||
      ((character === "[" || (character === "!" && text[at + 1] === "[")) && linkAt(text, at)) ||
      (character === "h" && addressAt(text, at)) ||
      ("*_~".includes(character) && depth < DEEPEST && emphasisAt(text, at, depth, absent));
    if (found) push(...found);
    else {
      plain += character;
      at += 1;
    }
  }
  if (plain) nodes.push(plain);
  return nodes;
}

function codeAt(text, at, absent) {
  const ticks = /^`+/.exec(text.slice(at, at + 20))[0];
  if (absent.has(ticks)) return null;
  const end = text.indexOf(ticks, at + ticks.length);
  if (end < 0) {
    absent.add(ticks);
    return null;
  }
  return [element("code", {}, text.slice(at + ticks.length, end).trim()), end + ticks.length];
}

function emphasisAt(text, at, depth, absent) {
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at) || absent.has(mark)) continue;
    if (!(text[at + mark.length] ?? " ").trim()) continue; // a space behind: a sign, not a mark
    if (mark[0] === "_" && isWord(text[at - 1])) continue;
    let end = text.indexOf(mark, at + mark.length + 1);
    while (end > 0 && (!text[end - 1].trim() || (mark[0] === "_" && isWord(text[end + mark.length]))))
      end = text.indexOf(mark, end + 1);
    if (end < 0) {
      absent.add(mark);
      continue;
    }
    const inside = inline(text.slice(at + mark.length, end), depth + 1);
    return [element(tag, {}, ...inside), end + mark.length];
  }
  return null;
}

/** [text](address), and ![text](address) as a link: an image would be a request to a foreign server. */
function linkAt(text, at) {
  const match = /^!?\[([^[\]\n]{0,1000})\]\(\s*<?([^\s()<>]{1,2000})>?(?:\s+"[^"\n]{0,500}")?\s*\)/.exec(text.slice(at, at + 3600));
  if (!match) return null;
  const address = allowed(match[2]);
  const node = address ? link(address, [match[1] || address]) : element("span", {}, match[0]);
  return [node, at + match[0].length];
}

function addressAt(text, at) {
  const match = /^https?:\/\/[^\s<>"'`\]]{1,2000}/.exec(text.slice(at, at + 2010));
  if (!match || isWord(text[at - 1])) return null;
  const found = match[0].replace(/[.,;:!?)}*_]+$/, "");
  const address = allowed(found);
  return address && [link(address, [found]), at + found.length];
}

function allowed(address) {
  try {
    const { protocol, href } = new URL(address);
    return ["http:", "https:", "mailto:"].includes(protocol) ? href : null;
  } catch {
    return null; // a relative address would lead into this server
  }
}

function link(href, children) {
  return element("a", { href, target: "_blank", rel: "noopener noreferrer nofollow", title: href }, ...children);
}
