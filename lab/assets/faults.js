// The switches of every system on one page. It shows what is, and asks for the other.

import { $, $$, Refused, el, listen, say, send } from "/assets/house.js";

/** What `latency` adds each way here; the system's own page can say another figure. */
const LATENCY_MS = 20;
/** The chat page calls networks what people call them; the house names stand on the switches. */
const NETWORKS = { latency: "slow", partition: "offline" };

async function ask(button, method, path, body) {
  button.setAttribute("aria-busy", "true");
  try {
    say($("#problem"), "");
    await send(method, path, body);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say($("#problem"), error.message);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

const isOn = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, on) => button.setAttribute("aria-pressed", String(on));

// ---- the rate limiter

for (const button of $$("[data-fault]")) {
  const { fault } = button.dataset;
  button.addEventListener("click", () => {
    const on = !isOn(button);
    const extra = fault === "latency" && on ? { latency_ms: LATENCY_MS } : {};
    ask(button, "PUT", `/rate-limiter/lab/faults/${fault}`, { on, ...extra });
  });
}

listen("/rate-limiter/lab/events", {
  moment(moment) {
    if (moment.kind !== "note" || moment.name !== "state") return;
    const { settings, redis, redis_usable, redis_found, faults } = moment.data;
    $("#redis-faults").disabled = !(redis && settings?.store === "redis");
    const start = redis_usable
      ? "Start traffic with the store Redis on its page first."
      : `There is no Redis on this machine (${redis_found}): cargo x setup installs one.`;
    say($("#redis"), $("#redis-faults").disabled ? start : redis);
    for (const button of $$("[data-fault]")) press(button, faults.includes(button.dataset.fault));
  },
});

// ---- the job queue

$("#kill-workers").addEventListener("click", (event) => ask(event.currentTarget, "POST", "/job-queue/lab/kill"));

listen("/job-queue/lab/events", {
  moment(moment) {
    if (moment.kind === "mark" && moment.name === "kill-9" && moment.begins) {
      say($("#workers"), "The workers were killed. What they held comes back when its lease ends.");
    }
    if (moment.kind !== "note" || moment.name !== "queue") return;
    const there = moment.data.crew.workers > 0;
    if (there && $("#worker-faults").disabled) say($("#workers"), "All of them at once, in the middle of what they do; new ones come.");
    if (!there) say($("#workers"), "There are no workers: send some jobs on its page first.");
    $("#worker-faults").disabled = !there;
  },
});

// ---- the chat service

/** A switch that stays the same element, so that it keeps the focus. */
function switchOf(place, key, text, label, click) {
  const there = $(`[data-key="${key}"]`, place);
  if (there) return there;
  const button = el("button", { type: "button", "aria-pressed": "false", "aria-label": label, "data-key": key }, text);
  button.addEventListener("click", () => click(button));
  place.append(button);
  return button;
}

listen("/chat-service/lab/events", {
  state({ servers, people }) {
    for (const { name, up } of servers) {
      const path = `/chat-service/lab/servers/${name}`;
      const toggle = (button) => ask(button, "PUT", path, { up: isOn(button) });
      press(switchOf($("#servers"), `server-${name}`, `kill-9 ${name}`, `kill-9 ${name}, a server`, toggle), !up);
    }
    for (const { name, network } of people) {
      let row = $(`[data-person="${name}"]`, $("#people"));
      if (!row) {
        row = el("div", { class: "actions", role: "group", "aria-label": name, "data-person": name }, el("span", { class: "small quiet" }, name));
        $("#people").append(row);
      }
      for (const [fault, means] of Object.entries(NETWORKS)) {
        const toggle = (button) => ask(button, "PUT", `/chat-service/lab/people/${name}`, { network: isOn(button) ? "good" : means });
        press(switchOf(row, fault, fault, `${fault} for ${name}`, toggle), network === means);
      }
    }
  },
});
