// The URL shortener's page: links out through the API, visitors out, clicks in.

import { $, TimeChart, clearProblem, count, el, fillTable, listen, say, send, short, showProblem, time, valuesOf } from "/assets/house.js";

const API = "/url-shortener/v1/links";
const LAB = "/url-shortener/lab";
/** How often the figures are read out: four times a second would be noise. */
const SAY_EVERY_MS = 5_000;

const shorten = $("#shorten");
const settings = $("#settings");
const rates = new TimeChart($("#rates"), {
  title: "Visits per second", height: 200, format: short,
  series: [
    { key: "redirected", label: "redirected", style: "allowed", fill: true },
    { key: "refused", label: "gone or unknown", style: "denied dashed" },
    { key: "failed", label: "failed", style: "failed dotted" },
  ],
});
const arrival = new TimeChart($("#arrival"), {
  title: "Clicks since these visitors came", height: 160, format: short,
  series: [
    { key: "redirected", label: "redirected", style: "accent" },
    { key: "counted", label: "counted in the store", style: "denied dashed" },
  ],
});

let redirected = 0;
let counted = 0;
let saidAt = 0;

// ---- links

shorten.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblem(shorten);
  const { url, alias, redirect, max_visits, unlisted } = valuesOf(shorten);
  $("#make").setAttribute("aria-busy", "true");
  try {
    const link = await send("POST", API, { url, alias: alias || null, redirect: Number(redirect), max_visits, unlisted });
    shorten.elements.alias.value = "";
    await showLinks(link.code);
    say($("#status"), `Made ${link.short_url}.`);
  } catch (error) {
    showProblem(shorten, error);
  } finally {
    $("#make").removeAttribute("aria-busy");
  }
});

async function showLinks(chosen) {
  const { links } = await send("GET", `${API}?limit=8`);
  if (!links.length) return;
  const select = settings.elements.code;
  const now = chosen ?? select.value;
  select.replaceChildren(...links.map(({ code }) => el("option", { value: code, selected: code === now }, code)));
  $("#links").replaceChildren(...links.map((link) => el("tr", {},
    el("th", { scope: "row" }, el("a", { href: link.short_url, target: "_blank", rel: "noreferrer" }, link.code)),
    el("td", {}, link.url),
    el("td", { class: "number" }, String(link.redirect)),
    el("td", { class: "number" }, link.max_visits == null ? "any" : count(link.max_visits)))));
}
showLinks().catch((error) => showProblem(shorten, error));

// ---- visitors

settings.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblem(settings);
  $("#start").setAttribute("aria-busy", "true");
  try {
    await send("POST", `${LAB}/visitors`, valuesOf(settings));
  } catch (error) {
    showProblem(settings, error);
  } finally {
    $("#start").removeAttribute("aria-busy");
  }
});

$("#stop").addEventListener("click", () => send("DELETE", `${LAB}/visitors`).catch((error) => showProblem(settings, error)));

listen(`${LAB}/events`, { moment: take }, (lost) => {
  if (lost) running(false, "The lab does not answer. Is it still running?");
});

function take(moment) {
  switch (moment.kind) {
    case "started":
      rates.clear();
      arrival.clear();
      redirected = counted = saidAt = 0;
      running(true, "Visitors are coming.");
      break;
    case "tick":
      tick(moment);
      break;
    case "stopped":
      running(false, moment.why ? `No more visitors: ${moment.why}.` : "Nobody yet.");
      break;
    case "note":
      if (moment.name === "counted") arrived(moment.data);
      else if (moment.name === "answer") showAnswer(moment.data);
      break;
  }
}

function running(is, text) {
  say($("#start"), is ? "Send others" : "Send visitors");
  $("#stop").disabled = !is;
  say($("#status"), text);
}

function tick({ at_ms, length_ms, classes, p50_ns }) {
  const now = { redirected: 0, refused: 0, failed: 0 };
  for (const [name, n] of Object.entries(classes)) {
    if (name === "redirected") now.redirected += n;
    else if (name === "gone" || name === "unknown") now.refused += n;
    else now.failed += n;
  }
  redirected += now.redirected;
  const perSecond = Object.fromEntries(Object.entries(now).map(([key, n]) => [key, (n * 1000) / length_ms]));
  rates.push(at_ms, perSecond);
  arrival.push(at_ms, { redirected, counted });
  say($("#figure-redirected"), count(redirected));
  say($("#figure-p50"), now.redirected ? time(p50_ns) : "–");
  if (at_ms - saidAt >= SAY_EVERY_MS) {
    saidAt = at_ms;
    say($("#status"), `Visitors are coming: ${count(redirected)} redirected, ${count(counted)} counted.`);
  }
}

function arrived({ error, since, unique, bots, browsers, referrers }) {
  if (error) {
    say($("#status"), `The clicks cannot be read: ${error}`);
    return;
  }
  counted = since;
  say($("#figure-counted"), count(since));
  say($("#figure-unique"), count(unique));
  say($("#figure-bots"), count(bots));
  const rows = [...browsers, ...referrers.map(([host, clicks]) => [`from ${host}`, clicks])];
  if (rows.length) fillTable($("#who"), rows.map(([name, clicks]) => [name, [count(clicks), "number"]]));
}

function showAnswer({ request, sent, status, reason, headers, body }) {
  const lines = (pairs) => pairs.map(([name, value]) => `${name}: ${value}`).join("\n");
  say($("#response"), `${request}\n${lines(sent)}\n\nHTTP/1.1 ${status} ${reason ?? ""}\n${lines(headers)}${body ? `\n\n${body}` : ""}`);
}

// ---- codes

$("#draw").addEventListener("click", async () => {
  const generators = await send("GET", `${LAB}/codes`);
  const word = (is) => (is ? "yes" : "no");
  fillTable($("#codes"), generators.map(({ name, codes, ns, unique, hides_order }) =>
    [name, codes.join("  "), word(unique), word(hides_order), [`${count(ns)} ns`, "number"]]));
});
