// Figures and notices below an answer.

import { element, icon } from "./dom.js";

const whole = new Intl.NumberFormat("en-US");

/** 1,234 */
export const count = (number) => whole.format(number);

/** 134.5M, 1.2B */
export function large(number) {
  const units = [[1e9, "B"], [1e6, "M"], [1e3, "k"]];
  const [size, unit] = units.find(([least]) => number >= least) ?? [1, ""];
  return `${+(number / size).toPrecision(3)}${unit}`;
}

const ENDINGS = {
  length: "ended at the limit of tokens",
  stopped: "stopped",
  content_filter: "ended by a filter",
};

/** A line such as "42 tokens · 61.3 tokens/s · first after 0.08 s". */
export function statsLine({ stats, finish }) {
  const said = [];
  if (stats?.tokens != null) said.push(`${count(stats.tokens)} token${stats.tokens === 1 ? "" : "s"}`);
  if (stats?.rate) said.push(`${stats.rate >= 100 ? stats.rate.toFixed(0) : stats.rate.toFixed(1)} tokens/s`);
  if (stats?.first != null) said.push(`first after ${stats.first.toFixed(2)} s`);
  if (stats?.prompt != null) {
    const reused = stats.reused ? `, ${count(stats.reused)} reused` : "";
    said.push(`prompt ${count(stats.prompt)}${reused}`);
  }
  if (ENDINGS[finish]) said.push(ENDINGS[finish]);
  return said.join(" · ");
}

/** What the server wants a person to know, and what went wrong. */
export function noticeLines({ notices = [], error }) {
  const lines = notices.map((text) => element("p", { class: "notice" }, icon("note"), element("span", {}, text)));
  if (error) lines.push(element("p", { class: "notice error", role: "alert" }, icon("note"), element("span", {}, error)));
  return lines;
}
