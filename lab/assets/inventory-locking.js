// The inventory's page: a sale out, moments in.

import { $, TimeChart, clearProblem, count, fillTable, listen, say, send, short, showProblem, time, valuesOf } from "/assets/house.js";

const BASE = "/inventory-locking/lab";

const form = $("#settings");
const rates = new TimeChart($("#rates"), {
  title: "Buyers per second, by what they were told", height: 230, format: short,
  series: [
    { key: "reserved", label: "reserved", style: "allowed", fill: true },
    { key: "sold_out", label: "sold out", style: "denied dashed" },
    { key: "failed", label: "busy or failed", style: "failed dotted" },
  ],
});
const latency = new TimeChart($("#latency"), {
  title: "Latency", height: 150, format: time,
  series: [
    { key: "p50", label: "p50", style: "accent" },
    { key: "p99", label: "p99", style: "denied dashed" },
  ],
});

let reserved = 0;

// ---- out

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblem(form);
  $("#start").disabled = true;
  try {
    await send("POST", `${BASE}/sale`, valuesOf(form));
  } catch (error) {
    showProblem(form, error);
  } finally {
    $("#start").disabled = false;
  }
});

$("#stop").addEventListener("click", () => send("DELETE", `${BASE}/sale`).catch((error) => showProblem(form, error)));

// ---- in

listen(`${BASE}/events`, { moment: take }, (lost) => {
  if (lost) running(false, "The lab does not answer. Is it still running?");
});

function take(moment) {
  switch (moment.kind) {
    case "started":
      rates.clear();
      latency.clear();
      reserved = 0;
      running(true, "The sale is open.");
      break;
    case "tick":
      tick(moment);
      break;
    case "stopped":
      running(false, moment.why ? `The sale is closed: ${moment.why}.` : "No sale yet.");
      break;
    case "note":
      if (moment.name === "state") state(moment.data);
      if (moment.name === "books") books(moment.data);
      break;
  }
}

function running(is, text) {
  say($("#start"), is ? "Open another sale" : "Open the sale");
  $("#stop").disabled = !is;
  say($("#status"), text);
}

function tick({ at_ms, length_ms, classes, p50_ns, p99_ns, dropped }) {
  const now = { reserved: 0, sold_out: 0, failed: 0 };
  for (const [name, n] of Object.entries(classes)) {
    if (name === "reserved") now.reserved += n;
    else if (name === "sold out") now.sold_out += n;
    else now.failed += n;
  }
  reserved += now.reserved;
  const answered = now.reserved + now.sold_out > 0;
  for (const key of Object.keys(now)) now[key] = (now[key] * 1000) / length_ms;
  rates.push(at_ms, now);
  latency.push(at_ms, answered ? { p50: p50_ns, p99: p99_ns } : {});
  say($("#figure-reserved"), count(now.reserved));
  say($("#figure-sold-out"), count(now.sold_out));
  say($("#figure-busy"), count(now.failed));
  say($("#figure-p99"), answered ? time(p99_ns) : "–");
  if (dropped) say($("#status"), `Too many buyers in line: ${dropped} were turned away at the door in this quarter of a second.`);
}

function books({ stock, audit, attempts, failed }) {
  if (failed) {
    say($("#audit"), `The audit could not be made: ${failed}`);
    return;
  }
  const promised = audit.held + audit.sold;
  const drift = audit.drifts.find(({ invariant }) => invariant === "oversold");
  const told = Math.max(0, reserved - stock);
  const oversold = $("#figure-oversold");
  say(oversold, count(told));
  oversold.classList.toggle("wrong", told > 0 || Boolean(drift));
  const rows = [["put in stock", stock], ["available", audit.available], ["held", audit.held], ["sold", audit.sold]];
  if (attempts) rows.push(["transactions for each reservation", (attempts / Math.max(1, promised)).toFixed(2)]);
  fillTable($("#books"), rows.map(([name, n]) => [name, [typeof n === "number" ? count(n) : n, "number"]]));
  const verdict = $("#audit");
  verdict.classList.toggle("wrong", audit.broken > 0);
  say(verdict, audit.broken === 0
    ? "The audit finds nothing wrong: every unit is accounted for, once."
    : `The audit finds ${audit.broken} broken: ${audit.drifts.map(({ invariant, what }) => `${invariant} (${what})`).join("; ")}.`);
}

function state({ settings, postgres_usable, postgres_found }) {
  const group = $("#postgres");
  group.disabled = !postgres_usable;
  group.label = postgres_usable ? "in Postgres" : `in Postgres (not on this machine: ${postgres_found})`;
  for (const [name, value] of Object.entries(settings ?? {})) {
    const field = form.elements[name];
    if (field && field !== document.activeElement) field.value = value;
  }
}
