// The LRU cache's page: the same requests through several policies, side by side.

import { $, $$, Refused, TimeChart, clearProblem, count, eventsOf, fillTable, say, sendRaw, showProblem, valuesOf } from "/assets/house.js";

const STYLES = ["accent", "denied dashed", "failed dotted", "allowed"];
/** How often the standings are read out. */
const SAY_EVERY_MS = 5_000;

const form = $("#settings");
const { mix, trace } = form.elements;
const percent = (value) => `${value.toFixed(1)} %`;
let cancel = null;

mix.addEventListener("change", () => trace.disabled = mix.value !== "trace");
mix.dispatchEvent(new Event("change"));

/** The chosen file as text. The first two bytes tell whether it is packed. */
async function textOfTrace() {
  const file = trace.files[0];
  if (mix.value !== "trace" || !file) return "";
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return file.text();
  const unpacked = new Response(file.stream().pipeThrough(new DecompressionStream("gzip")));
  return unpacked.text().catch(() => {
    throw new Refused({ errors: [{ pointer: "/trace", detail: "begins like gzip and cannot be unpacked" }] });
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblem(form);
  cancel?.abort();
  const mine = cancel = new AbortController();
  const policies = $$("[data-policy]", form).filter((box) => box.checked).map((box) => box.dataset.policy);
  try {
    const settings = { ...valuesOf(form), policies, trace: await textOfTrace() };
    const answer = await sendRaw("POST", "/lru-cache/lab/race", settings, mine.signal);
    $("#stop").disabled = false;
    await watch(answer, policies);
    say($("#status"), "The race is over.");
  } catch (error) {
    if (error instanceof Refused) showProblem(form, error);
    else if (error.name === "AbortError") say($("#status"), "Stopped.");
    else throw error;
  } finally {
    if (cancel === mine) $("#stop").disabled = true;
  }
});

$("#stop").addEventListener("click", () => cancel?.abort());

async function watch(answer, policies) {
  const chart = new TimeChart($("#ratios"), {
    title: "Hit ratio", height: 260, format: percent,
    series: policies.map((policy, at) => ({ key: policy, label: policy, style: STYLES[at] })),
  });
  let saidAt = -SAY_EVERY_MS;
  for await (const { event, data } of eventsOf(answer)) {
    if (event !== "moment") continue;
    const { at_ms, requests, standings } = data;
    chart.push(at_ms, Object.fromEntries(standings.map(({ policy, percent_now }) => [policy, percent_now])));
    const rows = standings.toSorted((a, b) => b.percent - a.percent);
    fillTable($("#standings"), rows.map((row) => [row.policy, [percent(row.percent_now), "number"], [percent(row.percent), "number"]]));
    if (at_ms - saidAt >= SAY_EVERY_MS) {
      saidAt = at_ms;
      say($("#status"), `${count(requests)} requests: ${rows[0].policy} leads with ${percent(rows[0].percent)} hits.`);
    }
  }
}
