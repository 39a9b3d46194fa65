// Continue mode: a text that a person and the model write together. What the model wrote is marked.

import { byId, copy, element, toast } from "./dom.js";
import { continueText, isRunning, keep, session, takeBack } from "./session.js";
import { noticeLines, statsLine } from "./stats.js";

const field = byId("text");
const marks = byId("marks");
const sheet = field.closest("#paper");
let frame = 0;

/** Draws the text and the buttons. */
export function drawPaper() {
  const { chat } = session;
  const running = isRunning(chat);
  const near = sheet.scrollHeight - sheet.scrollTop - sheet.clientHeight < 80;
  if (field.value !== chat.text) field.value = chat.text;
  field.readOnly = running;
  drawMarks(chat);
  byId("continue").hidden = running;
  byId("halt").hidden = !running;
  byId("again").disabled = byId("back").disabled = running || !chat.marks.length;
  byId("continue").disabled = !chat.text.trim();
  byId("written").replaceChildren(statsLine(chat.result ?? {}), ...noticeLines(chat.result ?? {}));
  if (running && near) sheet.scrollTop = sheet.scrollHeight;
}

/** Once a frame, while the text grows. */
export function drawPaperGrowth() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    drawPaper();
  });
}

/** Lies below the field with the same text, so that a background marks words in it. */
function drawMarks({ text, marks: ranges }) {
  const nodes = [];
  let at = 0;
  for (const [begin, end] of ranges) {
    nodes.push(text.slice(at, begin), element("mark", {}, text.slice(begin, end)));
    at = end;
  }
  marks.replaceChildren(...nodes, `${text.slice(at)}\n`);
}

/** What was generated stays marked as far as it was not touched. */
function typed() {
  const { chat } = session;
  const [before, after] = [chat.text, field.value];
  let same = 0;
  while (same < before.length && before[same] === after[same]) same += 1;
  chat.marks = chat.marks.filter(([begin]) => begin < same).map(([begin, end]) => [begin, Math.min(end, same)]);
  chat.text = after;
  chat.updated = Date.now();
  keep();
  drawPaper();
}

field.addEventListener("input", typed);
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (field.value.trim()) continueText();
  }
});
byId("continue").addEventListener("click", () => continueText());
byId("back").addEventListener("click", () => takeBack() && field.focus());
byId("again").addEventListener("click", () => takeBack() && continueText());
byId("copy-text").addEventListener("click", (event) => {
  if (!session.chat.text) return toast("There is no text yet.");
  copy(session.chat.text, event.currentTarget);
});
