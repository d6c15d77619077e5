// What every page of the console shares: asking the server, showing what is wrong where it is
// wrong, live events, the time chart, and tables. No framework; a page imports what it needs.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element: `el("td", { class: "number" }, "12")`. Text is text, never markup. */
export function el(name, attributes = {}, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function build(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Sets text only when it changed: a live region is then read once. */
export function say(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

// ---- asking the server

/** What the server refused: an RFC 9457 document. */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || `status ${problem.status}`);
    this.problem = problem;
  }
}

/** Sends JSON; returns the parsed answer, or throws `Refused`. */
export async function send(method, path, body) {
  const answer = await sendRaw(method, path, body);
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

/** The same for answers that are streams. `signal` cancels. */
export async function sendRaw(method, path, body, signal) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused({ title: "The lab does not answer. Is it still running?" });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused({ status: answer.status, title: answer.statusText, ...problem });
}

/** Yields `{event, data}` from an answer that is a stream of server-sent events. */
export async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const found = { event: "message", data: "" };
      for (const line of text.slice(0, end).split("\n")) {
        if (line.startsWith("event:")) found.event = line.slice(6).trim();
        if (line.startsWith("data:")) found.data += line.slice(5).trimStart();
      }
      if (found.data) yield { event: found.event, data: JSON.parse(found.data) };
    }
  }
}

/**
 * Listens to `path` for as long as the page is open: `handlers` by event name, `onLost(lost)` when
 * the lab goes away and comes back. The browser reconnects by itself.
 */
export function listen(path, handlers, onLost = () => {}) {
  const source = new EventSource(path);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.addEventListener("open", () => onLost(false));
  source.addEventListener("error", () => onLost(true));
  addEventListener("pagehide", () => source.close());
  return source;
}

// ---- forms

/** The values of a form by field name; numbers as numbers, empty ones as null. */
export function valuesOf(form) {
  const values = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled) continue;
    if (field.type === "checkbox") values[field.name] = field.checked;
    else if (field.type === "number") values[field.name] = field.value === "" ? null : Number(field.value);
    else values[field.name] = field.value;
  }
  return values;
}

/** Takes away what an earlier problem showed. */
export function clearProblem(form) {
  $$("[data-wrong]", form).forEach((node) => node.remove());
  $$("[aria-invalid]", form).forEach((field) => {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  });
  say($("[data-problem]", form), "");
}

/**
 * Shows a problem: each field error at its field, the rest in the form's `[data-problem]`.
 * `/limits/0/rate` is looked for as `limits.0.rate`, then as `rate`. The first wrong field gets
 * the focus.
 */
export function showProblem(form, error) {
  clearProblem(form);
  if (!(error instanceof Refused)) throw error;
  const rest = [];
  let first = null;
  for (const { pointer, detail } of error.problem.errors ?? []) {
    const path = (pointer ?? "").slice(1).split("/");
    const field = form.elements[path.join(".")] ?? form.elements[path.at(-1)];
    if (!field) {
      rest.push(detail);
      continue;
    }
    const id = `wrong-${path.join("-")}`;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", id);
    field.after(el("span", { class: "wrong", id, "data-wrong": true }, detail));
    first ??= field;
  }
  const place = $("[data-problem]", form);
  const text = rest.join("; ") || (first ? "" : error.message);
  if (place) say(place, first && !text ? "Please look at the marked field." : text);
  first?.focus();
}

// ---- figures

/** `12,345` */
export const count = (n) => Math.round(n).toLocaleString("en-US");

/** `1.2k`, `340`, `7.5`: three digits are enough for a live figure. */
export function short(n) {
  if (n >= 10_000) return `${(n / 1000).toFixed(0)}k`;
  if (n >= 1_000) return `${(n / 1000).toFixed(1)}k`;
  return n >= 10 || n === 0 ? n.toFixed(0) : n.toFixed(1);
}

/** Nanoseconds for people: `85 µs`, `1.2 ms`, `3.0 s`. */
export function time(ns) {
  if (ns === 0) return "0";
  if (ns < 1e6) return `${(ns / 1e3).toFixed(0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(1)} s`;
}

/** Fills a `<tbody>` from rows of cells; a cell is text, or `[text, class]`. */
export function fillTable(body, rows) {
  body.replaceChildren(...rows.map((cells) => el("tr", {}, ...cells.map((cell, index) => {
    const [text, kind] = Array.isArray(cell) ? cell : [cell, null];
    return el(index === 0 ? "th" : "td", { class: kind, scope: index === 0 ? "row" : null }, text);
  }))));
}

// ---- the time chart

const MARGIN = { left: 46, right: 8, top: 18, bottom: 22 };

/**
 * Two or three series over time with the faults marked on it.
 *
 *   const chart = new TimeChart(place, {
 *     title: "Requests per second", height: 220, windowMs: 60_000, format: short,
 *     series: [{ key: "allowed", label: "allowed", style: "allowed", fill: true },
 *              { key: "denied", label: "denied", style: "denied dashed" }],
 *   });
 *   chart.push(atMs, { allowed: 120, denied: 3 });
 *   chart.mark(atMs, "redis-down", true);   // false when it ends
 *
 * Styles are classes of house.css. The newest values stand in the legend as text, so nothing is
 * told by colour alone.
 */
export class TimeChart {
  constructor(place, options) {
    this.options = { height: 200, windowMs: 60_000, shortestMs: 10_000, format: short, ...options };
    this.points = [];
    this.marks = [];
    this.caption = el("figcaption", {}, el("b", {}, options.title));
    this.values = new Map();
    for (const { key, label, style } of options.series) {
      const value = el("span", {}, "");
      this.values.set(key, value);
      this.caption.append(el("span", { class: `key ${style}` }, label, " ", value));
    }
    this.drawing = svg("svg", { role: "img", "aria-label": options.title });
    place.replaceChildren(el("figure", { class: "chart" }, this.caption, this.drawing));
    new ResizeObserver(() => this.#soon()).observe(place);
  }

  push(atMs, values) {
    this.points.push({ atMs, values });
    this.#forget();
    this.#soon();
  }

  mark(atMs, name, begins) {
    this.marks.push({ atMs, name, begins });
    this.#soon();
  }

  clear() {
    this.points = [];
    this.marks = [];
    this.#soon();
  }

  /** What left the window; one point more, so that the line still comes in from the edge. */
  #forget() {
    const oldest = this.points.at(-1).atMs - this.options.windowMs;
    while (this.points.length > 2 && this.points[1].atMs < oldest) this.points.shift();
  }

  #soon() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  #draw() {
    const { series, height, windowMs, shortestMs, format } = this.options;
    const width = Math.max(240, this.drawing.parentElement.clientWidth);
    const last = this.points.at(-1);
    const endMs = Math.max(last?.atMs ?? 0, shortestMs);
    const startMs = Math.max(0, endMs - windowMs);
    const highest = Math.max(0, ...this.points.flatMap(({ values }) => series.map(({ key }) => values[key] ?? 0)));
    const scale = niceScale(highest);
    const x = (atMs) => MARGIN.left + ((atMs - startMs) / (endMs - startMs)) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => height - MARGIN.bottom - (value / scale.top) * (height - MARGIN.top - MARGIN.bottom);
    const parts = [];
    for (let value = 0; value <= scale.top * 1.0001; value += scale.step) {
      parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)));
    }
    const stepMs = niceScale(endMs - startMs, 1000).step;
    for (let at = Math.ceil(startMs / stepMs) * stepMs; at <= endMs; at += stepMs) {
      const anchor = x(at) > width - 30 ? "end" : "middle";
      parts.push(svg("text", { x: x(at), y: height - 6, "text-anchor": anchor }, `${at / 1000} s`));
    }
    parts.push(...this.#faults(x, startMs, endMs, height, width));
    for (const { key, style, fill } of series) {
      const spots = this.points.filter(({ values }) => values[key] != null)
        .map(({ atMs, values }) => `${Math.max(MARGIN.left, x(atMs)).toFixed(1)},${y(values[key]).toFixed(1)}`);
      if (!spots.length) continue;
      if (fill) {
        const first = spots[0].split(",")[0], end = spots.at(-1).split(",")[0];
        parts.push(svg("polygon", { class: `fill ${style}`, points: `${first},${y(0)} ${spots.join(" ")} ${end},${y(0)}` }));
      }
      parts.push(svg("polyline", { class: `line ${style}`, points: spots.join(" ") }));
    }
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.drawing.replaceChildren(...parts);
    for (const [key, node] of this.values) say(node, last?.values[key] == null ? "" : format(last.values[key]));
  }

  /** A shaded span while a fault lasts, with its name where it begins. */
  #faults(x, startMs, endMs, height, width) {
    const parts = [];
    const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
    this.marks.forEach(({ atMs, name, begins }, index) => {
      if (!begins) return;
      const end = this.marks.slice(index).find((mark) => mark.name === name && !mark.begins)?.atMs ?? endMs;
      if (end < startMs) return;
      const from = Math.max(x(atMs), MARGIN.left);
      parts.push(svg("rect", { class: "fault-span", x: from, y: top, width: Math.max(1, x(Math.min(end, endMs)) - from), height: bottom - top }));
      for (const at of [atMs, end]) {
        if (at < startMs || at >= endMs) continue;
        parts.push(svg("line", { class: "fault-mark", x1: x(at), x2: x(at), y1: top, y2: bottom }));
      }
      const late = from > width * 0.75;
      parts.push(svg("text", { class: "fault-name", x: from + (late ? -4 : 4), y: top - 5, "text-anchor": late ? "end" : "start" }, name));
    });
    return parts;
  }
}

/** A round upper end and step: 4 lines or so. */
function niceScale(highest, unit = 1) {
  const rough = Math.max(highest, unit * 1e-6) / unit / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) * power * unit;
  return { step, top: step * Math.max(1, Math.ceil(highest / step)) };
}

// ---- the theme button: system, light, dark

const themes = ["system", "light", "dark"];

function theme(next) {
  const root = document.documentElement;
  const now = root.dataset.theme ?? "system";
  const chosen = next ? themes[(themes.indexOf(now) + 1) % themes.length] : now;
  if (chosen === "system") delete root.dataset.theme;
  else root.dataset.theme = chosen;
  try {
    localStorage.setItem("theme", chosen);
  } catch {
    // No storage: the choice lasts as long as the page.
  }
  const button = $("#theme");
  const word = chosen === "system" ? "auto" : chosen;
  say($("[data-theme-name]", button), word);
  button.setAttribute("aria-label", `Theme: ${word}`);
}

const button = $("#theme");
if (button && !button.dataset.ready) {
  button.dataset.ready = "yes";
  button.addEventListener("click", () => theme(true));
  theme(false);
}
