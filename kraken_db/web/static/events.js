// Server-sent events, read from a fetch: an EventSource could not send the token in a header.
//
// A hidden tab holds no connection: a phone keeps its battery, and ten open tabs do not use up the connections that
// a browser has for one server.

import { goToLogin, headers } from "./api.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
const SILENCE = 45_000;

export class Events {
  constructor(query = {}) {
    this.query = query;
    this.handlers = new Map();
    this.lastId = null;
    this.pause = FIRST_PAUSE;
    this.onState = () => {};
    this.stopped = false;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#drop() : this.#connect()));
    addEventListener("online", () => this.#connect());
  }

  on(kind, handler) {
    this.handlers.set(kind, handler);
    return this;
  }

  start() {
    this.#connect();
    return this;
  }

  #drop() {
    this.abort?.abort();
    this.abort = null;
    clearTimeout(this.retry);
    this.onState("paused");
  }

  async #connect() {
    if (this.abort || document.hidden) return;
    clearTimeout(this.retry);
    const abort = (this.abort = new AbortController());
    this.onState("connecting");
    try {
      await this.#read(abort);
    } catch {
      // Whatever ended it: it is tried again, after a pause that grows.
    }
    if (this.abort !== abort) return;
    this.abort = null;
    this.onState("waiting");
    this.retry = setTimeout(() => this.#connect(), this.pause * (0.75 + Math.random() / 2));
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
  }

  async #read(abort) {
    const more = this.lastId === null ? {} : { "Last-Event-ID": this.lastId };
    const answer = await fetch(`/api/v1/events?${new URLSearchParams(this.query)}`, {
      headers: headers({ Accept: "text/event-stream", ...more }),
      credentials: "omit",
      cache: "no-store",
      signal: abort.signal,
    });
    if (answer.status === 401) goToLogin();
    if (!answer.ok || !answer.body) throw new Error(String(answer.status));
    this.onState("live");
    // What came before this moment is no event: it is read again.
    this.handlers.get("open")?.();
    this.pause = FIRST_PAUSE;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => abort.abort(), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const blocks = (rest + value).replace(/\r\n?/g, "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.#dispatch(block);
    }
  }

  #dispatch(block) {
    let kind = "message";
    const data = [];
    for (const line of block.split("\n")) {
      const at = line.indexOf(":");
      const field = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
      if (field === "event") kind = value;
      else if (field === "data") data.push(value);
      else if (field === "id") this.lastId = value;
    }
    const handler = this.handlers.get(kind);
    if (handler && data.length) handler(JSON.parse(data.join("\n")));
  }
}
