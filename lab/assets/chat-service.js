// The chat service's page: three clients side by side. Each is a device as PROTOCOL.md has it:
// a cursor, what is not known to be sent, and a connection that may end at any moment.

import { $, clearProblem, count, el, listen, say, send, showProblem, valuesOf } from "/assets/house.js";

const BASE = "/chat-service/lab";
const CREDIT = 256;
const PAGE = 30;
/** Rows kept on the page; older ones can be read again. */
const ROWS_MAX = 300;
/** Pause before connecting again, growing and random. */
const PAUSE_MS = [250, 4_000];
const ACK_AFTER_MS = 60;
const SEND_MAX = 16_384;

const people = new Map();
let conversation = null;

class Person {
  constructor({ name, token }) {
    Object.assign(this, { name, token, epoch: null, cursor: 0, known: new Map(), unsent: [], receipts: new Map() });
    Object.assign(this, { own: new Set(), taken: 0, read: 0, unread: 0, pause: PAUSE_MS[0], asked: 0, hasMore: false });
    this.build();
  }

  build() {
    const id = (part) => `${this.name}-${part}`;
    this.line = el("p", { class: "quiet small", role: "status" }, "not connected");
    this.badge = el("span", { class: "badge", hidden: true });
    this.older = el("button", { type: "button", class: "plain small", hidden: true }, "Older messages");
    this.rows = el("ol", { class: "messages", tabindex: "0", "aria-label": `${this.name}'s messages` });
    this.text = el("input", { id: id("text"), autocomplete: "off", maxlength: "4000", "aria-label": `${this.name} writes` });
    this.hand = el("input", { type: "checkbox", id: id("hand"), checked: this.name !== "carol" });
    const write = el("form", { class: "write" }, this.text, el("button", { type: "submit", class: "primary" }, "Send"));
    this.networks = ["good", "slow", "offline"].map((network) => {
      const button = el("button", { type: "button", class: "tab", "aria-pressed": "false", "data-network": network }, network);
      button.addEventListener("click", () => send("PUT", `${BASE}/people/${this.name}`, { network }).catch(lost));
      return button;
    });
    const network = el("div", { class: "actions", role: "group", "aria-label": `${this.name}'s network` }, el("span", { class: "small quiet" }, "network"), ...this.networks);
    this.node = el("section", { class: "person", "data-person": this.name },
      el("h2", {}, this.name, " ", this.badge), this.line, network,
      el("label", { class: "check" }, this.hand, " phone in hand"), this.older, this.rows, write);
    write.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.text.value;
      if (text && new TextEncoder().encode(text).length <= SEND_MAX) this.write(text);
      this.text.value = "";
    });
    this.hand.addEventListener("change", () => this.readAll());
    this.older.addEventListener("click", () => this.askOlder());
    $("#people").append(this.node);
  }

  // ---- the connection

  connect() {
    const { protocol, host } = location;
    const socket = this.socket = new WebSocket(`${protocol.replace("http", "ws")}//${host}${BASE}/people/${this.name}/socket`);
    say(this.line, "connecting");
    socket.addEventListener("open", () => {
      const hello = { type: "hello", token: this.token, credit: CREDIT, resume: "newest" };
      if (this.epoch !== null) Object.assign(hello, { epoch: this.epoch, cursors: [{ conversation, seq: this.cursor }] });
      this.taken = 0;
      this.tell(hello);
      // In the order of writing, under the same ids: what was taken already gets its old place.
      for (const frame of this.unsent) this.tell(frame);
    });
    socket.addEventListener("message", ({ data }) => this.hear(JSON.parse(data)));
    socket.addEventListener("close", ({ code, reason }) => this.ended(code, reason));
  }

  ended(code, reason) {
    this.up = false;
    const why = reason || "the connection broke";
    if (code >= 4400) return say(this.line, `ended: ${why}`);
    say(this.line, `not connected: ${why}`);
    setTimeout(() => this.connect(), this.pause * (0.5 + Math.random() / 2));
    this.pause = Math.min(this.pause * 2, PAUSE_MS[1]);
  }

  tell(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  // ---- what the server says

  hear(frame) {
    switch (frame.type) {
      case "welcome":
        if (frame.reset || (this.epoch !== null && this.epoch !== frame.epoch)) this.forget();
        this.epoch = frame.epoch;
        this.up = true;
        this.pause = PAUSE_MS[0];
        say(this.line, "connected");
        this.askReceipts();
        break;
      case "conversations":
        for (const item of frame.items) if (item.conversation === conversation) this.begin(item);
        break;
      case "message":
        this.arrived(frame);
        break;
      case "sent":
        this.sent(frame);
        break;
      case "receipt":
        this.receipts.set(frame.user, frame);
        this.ticks();
        break;
      case "page":
        this.hasMore = frame.has_more;
        for (const message of frame.messages) this.known.set(message.seq, message);
        this.draw(false);
        break;
      case "error":
        say(this.line, `refused: ${frame.detail}`);
        if (frame.client_id) this.giveUp(frame.client_id);
        break;
    }
  }

  forget() {
    this.known.clear();
    this.own.clear();
    Object.assign(this, { cursor: 0, epoch: null });
  }

  begin(item) {
    this.read = item.read_seq;
    this.unread = item.unread;
    if (this.known.size === 0) {
      this.cursor = item.last_seq;
      this.tell({ type: "ack", conversation, seq: this.cursor });
      this.askOlder();
    }
    this.readAll();
  }

  arrived(message) {
    this.taken += 1;
    if (this.taken * 2 >= CREDIT) {
      this.tell({ type: "credit", messages: this.taken });
      this.taken = 0;
    }
    if (message.seq <= this.cursor) return;
    this.known.set(message.seq, message);
    this.cursor = message.seq;
    this.advance();
    if (message.sender !== this.name) this.unread += 1;
    this.soon();
  }

  sent({ client_id, seq, at_ms }) {
    const mine = this.unsent.find((frame) => frame.client_id === client_id);
    this.giveUp(client_id);
    if (!mine) return;
    this.known.set(seq, { seq, sender: this.name, client_id, at_ms, text: mine.text });
    if (seq > this.cursor) this.own.add(seq);
    this.advance();
    this.soon();
  }

  /** One's own messages are not pushed: they take their places when those before them have come. */
  advance() {
    while (this.own.delete(this.cursor + 1)) this.cursor += 1;
  }

  /** Acknowledges, reads and draws once for many messages. */
  soon() {
    this.later ??= setTimeout(() => {
      this.later = null;
      this.tell({ type: "ack", conversation, seq: this.cursor });
      this.readAll();
      this.draw(true);
    }, ACK_AFTER_MS);
  }

  // ---- what the person does

  write(text) {
    const frame = { type: "send", client_id: crypto.randomUUID(), conversation, text };
    this.unsent.push(frame);
    this.tell(frame);
    this.draw(true);
  }

  giveUp(clientId) {
    this.unsent = this.unsent.filter((frame) => frame.client_id !== clientId);
  }

  readAll() {
    if (this.hand.checked && this.up) {
      if (this.cursor > this.read) this.tell({ type: "read", conversation, seq: this.cursor });
      this.read = Math.max(this.read, this.cursor);
      this.unread = 0;
    }
    this.badge.hidden = this.unread === 0;
    say(this.badge, `${count(this.unread)} unread`);
  }

  askOlder() {
    const oldest = Math.min(...this.known.keys());
    const before = Number.isFinite(oldest) ? { before: oldest } : {};
    this.asked += 1;
    this.tell({ type: "history", id: this.asked, conversation, limit: PAGE, ...before });
  }

  /** Receipts are told as they change; how things stand is asked for. */
  async askReceipts() {
    const headers = { authorization: `Bearer ${this.token}` };
    const answer = await fetch(`/chat-service/v1/conversations/${conversation}/members`, { headers }).catch(() => null);
    if (!answer?.ok) return;
    for (const receipt of (await answer.json()).members) this.receipts.set(receipt.user, receipt);
    this.ticks();
  }

  // ---- what is seen

  tick(seq) {
    const others = [...people.keys()].filter((name) => name !== this.name);
    const all = (what) => others.every((name) => (this.receipts.get(name)?.[what] ?? 0) >= seq);
    return all("read") ? "✓✓ read" : all("delivered") ? "✓✓ delivered" : "✓ sent";
  }

  draw(toEnd) {
    const messages = [...this.known.values()].sort((a, b) => a.seq - b.seq);
    const cut = toEnd ? messages.length - ROWS_MAX : 0;
    for (const { seq } of messages.splice(0, Math.max(0, cut))) {
      this.known.delete(seq);
      this.hasMore = true;
    }
    const list = this.rows;
    const fromEnd = list.scrollHeight - list.scrollTop;
    list.replaceChildren(...messages.map((message) => this.row(message)), ...this.unsent.map((frame) => this.row(frame)));
    list.scrollTop = toEnd ? list.scrollHeight : list.scrollHeight - fromEnd;
    this.older.hidden = !this.hasMore;
  }

  row({ seq, sender, text, joined, left }) {
    if (joined || left) return el("li", { class: "quiet small" }, joined ? `${sender} added ${joined}` : `${left} left`);
    const isOwn = sender === undefined || sender === this.name;
    const state = seq === undefined ? "… on its way" : isOwn ? this.tick(seq) : null;
    return el("li", { class: isOwn ? "mine" : "theirs", "data-seq": seq },
      el("span", { class: "small quiet" }, isOwn ? "" : sender), el("span", {}, text),
      state && el("span", { class: "small quiet", "data-tick": true }, state));
  }

  ticks() {
    for (const row of this.rows.querySelectorAll(".mine[data-seq]")) say(row.querySelector("[data-tick]"), this.tick(Number(row.dataset.seq)));
  }
}

// ---- the switches

function state({ servers, people: networks }) {
  const buttons = servers.map(({ name, up }) => {
    const button = el("button", { type: "button", "aria-pressed": String(!up), "data-server": name }, up ? `Kill server ${name}` : `Server ${name} is dead: start it`);
    button.addEventListener("click", () => send("PUT", `${BASE}/servers/${name}`, { up: !up }).catch(lost));
    return button;
  });
  $("#servers").replaceChildren(...buttons);
  for (const { name, network } of networks) {
    for (const button of people.get(name)?.networks ?? []) button.setAttribute("aria-pressed", String(button.dataset.network === network));
  }
  const dead = servers.filter(({ up }) => !up).map(({ name }) => name);
  say($("#status"), dead.length ? `Server ${dead.join(" and ")} was killed.` : "Both servers run.");
}

function lost(error) {
  say($("#status"), error.message);
}

const backlog = $("#backlog");
backlog.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearProblem(backlog);
  try {
    await send("POST", `${BASE}/backlog`, valuesOf(backlog));
  } catch (error) {
    showProblem(backlog, error);
  }
});

try {
  const cast = await send("GET", `${BASE}/people`);
  conversation = cast.conversation;
  for (const person of cast.people) people.set(person.name, new Person(person));
  for (const person of people.values()) person.connect();
  listen(`${BASE}/events`, { state }, (gone) => gone && lost(new Error("The lab does not answer. Is it still running?")));
} catch (error) {
  lost(error);
}
