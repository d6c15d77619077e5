// The rate limiter's page: settings out, moments in.

import { $, $$, TimeChart, clearProblem, count, fillTable, listen, say, send, short, showProblem, time, valuesOf } from "/assets/house.js";

const BASE = "/rate-limiter/lab";
const HAS_BURST = ["token-bucket", "gcra", "leaky-bucket", "leaky-queue"];
/** How often the figures are read out: four times a second would be noise. */
const SAY_EVERY_MS = 5_000;

const form = $("#settings");
const rates = new TimeChart($("#rates"), {
  title: "Requests per second", height: 230, format: short,
  series: [
    { key: "allowed", label: "allowed", style: "allowed", fill: true },
    { key: "denied", label: "denied", style: "denied dashed" },
    { key: "failed", label: "failed", style: "failed dotted" },
  ],
});
const latency = new TimeChart($("#latency"), {
  title: "Latency", height: 150, format: time,
  series: [
    { key: "p50", label: "p50", style: "accent" },
    { key: "p99", label: "p99", style: "denied dashed" },
  ],
});

const responses = {};
let shown = "allowed";
let totals = new Map();
let saidAt = 0;
let redisUsable = false;

// ---- out

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblem(form);
  const { latency_ms: _, ...settings } = valuesOf(form);
  // Not disabled meanwhile: a disabled button would lose the keyboard's focus.
  $("#start").setAttribute("aria-busy", "true");
  try {
    await send("POST", `${BASE}/traffic`, settings);
  } catch (error) {
    showProblem(form, error);
  } finally {
    $("#start").removeAttribute("aria-busy");
  }
});

$("#stop").addEventListener("click", () => send("DELETE", `${BASE}/traffic`).catch((error) => showProblem(form, error)));

for (const button of $$("[data-fault]")) {
  button.addEventListener("click", async () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    const extra = button.dataset.fault === "latency" && on ? { latency_ms: form.elements.latency_ms.valueAsNumber || 0 } : {};
    button.setAttribute("aria-busy", "true");
    try {
      clearProblem(form);
      await send("PUT", `${BASE}/faults/${button.dataset.fault}`, { on, ...extra });
    } catch (error) {
      showProblem(form, error);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

form.elements.algorithm.addEventListener("change", burstApplies);
function burstApplies() {
  form.elements.burst.disabled = !HAS_BURST.includes(form.elements.algorithm.value);
}
burstApplies();

for (const button of $$("[data-show]")) {
  button.addEventListener("click", () => {
    shown = button.dataset.show;
    for (const other of $$("[data-show]")) other.setAttribute("aria-pressed", String(other === button));
    showResponse();
  });
}

// ---- in

listen(`${BASE}/events`, { moment: take }, (lost) => {
  if (lost) running(false, "The lab does not answer. Is it still running?");
});

function take(moment) {
  switch (moment.kind) {
    case "started":
      rates.clear();
      latency.clear();
      totals = new Map();
      saidAt = 0;
      nobodyYet();
      running(true, "Traffic is running.");
      break;
    case "tick":
      tick(moment);
      break;
    case "mark":
      rates.mark(moment.at_ms, moment.name, moment.begins);
      latency.mark(moment.at_ms, moment.name, moment.begins);
      break;
    case "stopped":
      running(false, moment.why ? `Traffic ended: ${moment.why}.` : "No traffic yet.");
      break;
    case "note":
      if (moment.name === "state") state(moment.data);
      else {
        responses[moment.name] = moment.data;
        if (moment.name === shown) showResponse();
      }
      break;
  }
}

function nobodyYet() {
  fillTable($("#sources"), [["nobody yet", ...Array(3).fill(["–", "number"])]]);
  for (const figure of $$(".figures dd")) say(figure, "–");
}

function running(is, text) {
  say($("#start"), is ? "Start afresh" : "Start traffic");
  $("#stop").disabled = !is;
  say($("#status"), text);
}

function tick({ at_ms, length_ms, classes, p50_ns, p99_ns, dropped }) {
  const perSecond = (n) => (n * 1000) / length_ms;
  const now = { allowed: 0, denied: 0, failed: 0 };
  const sources = new Map();
  for (const [name, n] of Object.entries(classes)) {
    const [verdict, source] = name.split(" ");
    if (verdict !== "allowed" && verdict !== "denied") {
      now.failed += n;
      continue;
    }
    now[verdict] += n;
    const row = sources.get(source) ?? { allowed: 0, denied: 0 };
    row[verdict] += n;
    sources.set(source, row);
    totals.set(source, (totals.get(source) ?? 0) + n);
  }
  const answered = now.allowed + now.denied > 0;
  for (const key of Object.keys(now)) now[key] = perSecond(now[key]);
  rates.push(at_ms, now);
  latency.push(at_ms, answered ? { p50: p50_ns, p99: p99_ns } : {});
  for (const key of Object.keys(now)) say($(`#figure-${key}`), count(now[key]));
  say($("#figure-p50"), answered ? time(p50_ns) : "–");
  say($("#figure-p99"), answered ? time(p99_ns) : "–");
  const rows = [...totals].sort().map(([source, total]) => {
    const row = sources.get(source) ?? { allowed: 0, denied: 0 };
    return [source, [count(perSecond(row.allowed)), "number"], [count(perSecond(row.denied)), "number"], [count(total), "number"]];
  });
  if (rows.length) fillTable($("#sources"), rows);
  if (dropped) say($("#status"), `Too many requests in flight: ${dropped} were not sent in this quarter of a second.`);
  else if (at_ms - saidAt >= SAY_EVERY_MS) {
    saidAt = at_ms;
    say($("#status"), `Traffic is running: ${count(now.allowed)} allowed and ${count(now.denied)} denied a second.`);
  }
}

function state({ settings, redis_usable, redis_found, redis, faults }) {
  redisUsable = redis_usable;
  const option = $('option[value="redis"]', form);
  option.disabled = !redisUsable;
  say(option, redisUsable ? "Redis" : "Redis (not on this machine)");
  for (const [name, value] of Object.entries(settings ?? {})) {
    const field = form.elements[name];
    if (field && field !== document.activeElement) field.value = value ?? "";
  }
  burstApplies();
  $("#faults").disabled = !(redis && settings?.store === "redis");
  const missing = `There is no Redis on this machine (${redis_found}): cargo x setup installs one.`;
  say($("#redis"), redis ?? (redisUsable ? "They break the line to Redis: start traffic with that store first." : missing));
  for (const button of $$("[data-fault]")) {
    button.setAttribute("aria-pressed", String(faults.includes(button.dataset.fault)));
  }
}

function showResponse() {
  const response = responses[shown];
  if (!response) {
    say($("#response"), `No request was ${shown} yet.`);
    return;
  }
  const headers = response.headers.map(([name, value]) => `${name}: ${value}`).join("\n");
  const body = JSON.stringify(response.body, null, 2);
  say($("#response"), `${response.request}\n\nHTTP/1.1 ${response.status} ${response.reason ?? ""}\n${headers}\n\n${body}`);
}
