// The job queue's page: jobs out, how the queue stands in.

import { $, TimeChart, clearProblem, count, fillTable, listen, say, send, short, showProblem, time, valuesOf } from "/assets/house.js";

const BASE = "/job-queue/lab";

const form = $("#settings");
const depth = new TimeChart($("#depth"), {
  title: "Messages in the queue", height: 210, format: short,
  series: [
    { key: "ready", label: "ready", style: "accent", fill: true },
    { key: "in_flight", label: "in flight", style: "allowed dashed" },
    { key: "delayed", label: "waiting to retry", style: "denied dotted" },
  ],
});
const workers = new TimeChart($("#workers"), {
  title: "Workers follow the load", height: 150, format: short,
  series: [
    { key: "workers", label: "workers", style: "accent" },
    { key: "done", label: "done a second", style: "allowed dashed" },
  ],
});

let sent = null;
let before = null;
const act = (method, path, body) => send(method, `${BASE}/${path}`, body).catch((error) => showProblem(form, error));

// ---- out

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblem(form);
  $("#start").disabled = true;
  await act("POST", "jobs", valuesOf(form));
  $("#start").disabled = false;
});
$("#stop").addEventListener("click", () => act("DELETE", "jobs"));
$("#kill").addEventListener("click", () => act("POST", "kill"));
$("#redrive").addEventListener("click", () => act("POST", "redrive"));

// ---- in

listen(`${BASE}/events`, { moment: take }, (lost) => {
  if (lost) running(false, "The lab does not answer. Is it still running?");
});

function take(moment) {
  switch (moment.kind) {
    case "started":
      depth.clear();
      workers.clear();
      before = null;
      running(true, "Jobs are coming in.");
      break;
    case "tick":
      sent = ((moment.classes.sent ?? 0) * 1000) / moment.length_ms;
      if (moment.dropped) say($("#status"), `The service is behind: ${moment.dropped} jobs were not sent in this quarter of a second.`);
      break;
    case "mark":
      depth.mark(moment.at_ms, moment.name, moment.begins);
      if (moment.begins) say($("#status"), "The workers were killed. What they held comes back when its lease ends.");
      break;
    case "stopped":
      sent = 0;
      running(false, moment.why ? `No more jobs: ${moment.why}. The workers finish what is there.` : "No jobs yet.");
      break;
    case "note":
      if (moment.name === "queue") queue(moment.data);
      break;
  }
}

function running(is, text) {
  $("#stop").disabled = !is;
  say($("#status"), text);
}

function queue(now) {
  const { at_ms, ready, in_flight, delayed, dead, crew } = now;
  // A new start sets the time back; what is done since the last look is a rate only in between.
  const since = before && at_ms > before.at_ms ? (at_ms - before.at_ms) / 1000 : null;
  const done = since ? Math.max(0, crew.done - before.done) / since : 0;
  before = { at_ms, done: crew.done };
  // What is in flight and not being worked on waits for its backoff, or for a dead worker's lease.
  const waiting = Math.max(0, in_flight - crew.running);
  depth.push(at_ms, { ready, in_flight: in_flight - waiting, delayed: delayed + waiting });
  workers.push(at_ms, { workers: crew.workers, done });
  say($("#state-sent"), sent === null ? "–" : count(sent));
  say($("#state-ready"), count(ready));
  say($("#state-in-flight"), count(in_flight - waiting));
  say($("#state-retry"), count(delayed + waiting));
  say($("#state-done"), count(done));
  say($("#state-dead"), count(dead));
  say($("#figure-workers"), count(crew.workers));
  say($("#figure-oldest"), time(now.oldest_age_ms * 1e6));
  say($("#figure-done"), count(crew.done));
  say($("#figure-retried"), count(crew.retried));
  say($("#figure-given-up"), count(crew.given_up));
  $("#kill").disabled = crew.workers === 0;
  $("#redrive").disabled = dead === 0;
  const none = (columns) => [["none", ...Array(columns - 1).fill("–")]];
  fillTable($("#oldest"), now.oldest.length === 0 ? none(4) : now.oldest.map((it) => [
    it.id.slice(0, 8),
    it.left_ms === null ? it.phase : `${it.phase}, ${time(it.left_ms * 1e6)} left`,
    [count(it.receives), "number"], [time(it.age_ms * 1e6), "number"],
  ]));
  fillTable($("#letters"), now.letters.length === 0 ? none(3) : now.letters.map((it) => [it.id.slice(0, 8), it.reason, it.body]));
}
