// Runs a question and shows it happen. What the reader predicted stays in this browser.

import { $, $$, Refused, TimeChart, el, eventsOf, say, sendRaw, short, time } from "/assets/house.js";

/** The words of the terminal's telling. */
const WORDS = { scene: "scene", load: "load", fault: "fault", heal: "healed", observe: "seen", because: "because", measured: "measured" };
/** Outcomes that have a colour everywhere; the others take what is left, in turn. */
const STYLE_OF = { allowed: "allowed", denied: "denied dashed" };
const STYLES = ["accent", "failed dotted", "denied dashed", "allowed"];
/** The last interval of a run can be a sliver; as a rate it would be a spike. */
const INTERVAL_MS_MIN = 50;

for (const article of $$("[data-question]")) {
  remember($("[data-prediction]", article));
  $("[data-run]", article).addEventListener("click", () => run(article));
}

function remember(area) {
  const key = `prediction ${area.dataset.prediction}`;
  try {
    area.value = localStorage.getItem(key) ?? "";
    area.addEventListener("input", () => localStorage.setItem(key, area.value));
  } catch {
    // No storage: the prediction lasts as long as the page.
  }
}

async function run(article) {
  const part = (name) => $(`[data-${name}]`, article);
  const cancel = new AbortController();
  const stop = () => cancel.abort();
  part("stop").addEventListener("click", stop, { once: true });
  [part("run").hidden, part("stop").hidden] = [true, false];
  part("stop").focus();
  part("log").replaceChildren();
  part("chart").replaceChildren();
  say(part("progress"), "");
  verdict(part("verdict"), "running", "");
  const telling = new Telling(part);
  try {
    const path = `/questions/${article.dataset.question}`;
    const answer = await sendRaw("POST", path, { long: part("long").checked }, cancel.signal);
    part("telling").hidden = false;
    for await (const { event, data } of eventsOf(answer)) {
      if (event === "told") telling.tell(data);
      if (event === "missed") telling.line("missed", `${data.events} events came faster than this page took them`);
    }
    if (!telling.ended) verdict(part("verdict"), "the lab stopped before it ended", "failed");
  } catch (error) {
    if (error.name === "AbortError") verdict(part("verdict"), "stopped", "");
    else if (error instanceof Refused) verdict(part("verdict"), error.message, "failed");
    else throw error;
  } finally {
    part("stop").removeEventListener("click", stop);
    const had = part("stop") === document.activeElement;
    [part("run").hidden, part("stop").hidden] = [false, true];
    if (had) part("run").focus();
  }
}

function verdict(node, text, kind) {
  node.className = `verdict ${kind}`;
  say(node, text);
}

/** Turns events into the chart and the column of words. */
class Telling {
  constructor(part) {
    this.part = part;
    this.ended = false;
    this.charts = new Map();
    this.marks = [];
  }

  tell(event) {
    const { part } = this;
    switch (event.event) {
      case "begin":
        this.line("seed", String(event.seed));
        break;
      case "progress":
        this.progress(event);
        break;
      case "fault":
      case "heal":
        this.mark(event);
        this.line(WORDS[event.event], event.text ? `${event.name}: ${event.text}` : event.name);
        break;
      case "observe":
        this.line("seen", `${event.name}: ${event.value}`);
        break;
      case "measured":
        this.line("measured", measured(event.summary));
        break;
      case "expect":
        this.line(event.holds ? "holds" : "BROKEN", `${event.promise} (${event.observed})`, event.holds ? "allowed" : "failed");
        break;
      case "end":
        this.ended = true;
        say(part("progress"), "");
        if (event.asked.error) this.line("failed", event.asked.error, "failed");
        verdict(part("verdict"), `${event.asked.held} of ${event.asked.expected} expectations held in ${(event.asked.took_ms / 1000).toFixed(1)} s`, event.passed ? "allowed" : "failed");
        $("details", part("telling").parentElement).open = true;
        break;
      default:
        this.line(WORDS[event.event] ?? event.event, event.text ?? "");
    }
  }

  line(word, text, kind = null) {
    this.part("log").append(el("dt", { class: kind }, word), el("dd", {}, text));
  }

  mark(event) {
    const mark = [event.at_ms, event.name, event.event === "fault"];
    this.marks.push(mark);
    for (const { chart } of this.charts.values()) chart.mark(...mark);
  }

  /** One chart for each run that reports progress; its series are the outcomes that occur. */
  progress({ at_ms, run, progress }) {
    const { latest } = progress;
    say(this.part("progress"), `${run}: ${(progress.elapsed_ms / 1000).toFixed(1)} of ${(progress.planned_ms / 1000).toFixed(1)} s, p50 ${time(latest.p50_ns)}, p99 ${time(latest.p99_ns)}`);
    if (latest.length_ms < INTERVAL_MS_MIN) return;
    let entry = this.charts.get(run);
    const classes = Object.keys(latest.classes);
    if (!entry || classes.some((name) => !entry.names.includes(name))) {
      entry = this.chart(run, [...new Set([...(entry?.names ?? []), ...classes])], entry);
    }
    const perSecond = (n) => (n * 1000) / Math.max(1, latest.length_ms);
    const values = Object.fromEntries(entry.names.map((name) => [name, perSecond(latest.classes[name] ?? 0)]));
    entry.told.push([at_ms, values]);
    entry.chart.push(at_ms, values);
  }

  chart(run, names, old) {
    const place = old?.place ?? el("div");
    if (!old) this.part("chart").append(place);
    const series = names.map((key, index) => ({ key, label: key, style: STYLE_OF[key] ?? STYLES[index % STYLES.length] }));
    const chart = new TimeChart(place, { title: `${run}, per second`, series, format: short, height: 170, windowMs: 1e9, shortestMs: 1_000 });
    for (const point of old?.told ?? []) chart.push(...point);
    for (const mark of this.marks) chart.mark(...mark);
    const entry = { place, names, chart, told: old?.told ?? [] };
    this.charts.set(run, entry);
    return entry;
  }
}

function measured(run) {
  const classes = [...Object.entries(run.ok), ...Object.entries(run.errors)];
  const words = [classes.map(([name, n]) => `${n} ${name}`).join(", ")];
  if (!run.counts_only) words.push(`p50 ${time(run.latency.p50)}, p99 ${time(run.latency.p99)}`);
  if (run.dropped) words.push(`${run.dropped} not sent`);
  if (run.flaws.length) words.push(`not valid as a measurement: ${run.flaws.join("; ")}`);
  return `${run.name}: ${words.join("; ")}`;
}
