// A job: what it does, how far it is, what it said. The same words as on the terminal.

import { request } from "./api.js";
import { h, setText } from "./dom.js";
import { dateTime, period, time } from "./format.js";
import { showProblem } from "./shell.js";

const KINDS = { backfill: "Backfill", "gaps-fill": "Fill gaps", verify: "Verify", export: "Export", record: "Recording" };
const STATES = { running: "running", done: "done", failed: "failed", stopped: "stopped" };

export const kindName = (kind) => KINDS[kind] ?? kind;

export class JobCard {
  constructor() {
    this.title = h("h3");
    this.state = h("span", { class: "badge" });
    this.of = h("p", { class: "soft of" });
    this.bar = h("span", { class: "bar-fill" });
    this.track = h("div", { class: "bar-track big", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, this.bar);
    this.text = h("p", { class: "progress-text" });
    this.error = h("p", { class: "notice bad", hidden: true });
    this.log = h("pre", { tabindex: "0", "aria-label": "What it said" });
    this.details = h("details", {}, h("summary", {}, "What it said"), this.log);
    this.stop = h("button", { type: "button", class: "button", onclick: () => this.#stop() }, "Stop");
    this.certificate = h("a", { class: "button" }, "Certificate");
    this.element = h("article", { class: "card job" },
      h("header", {}, this.title, this.state, h("span", { class: "actions" }, this.certificate, this.stop)),
      this.of, this.track, this.text, this.error, this.details);
  }

  show(job) {
    this.job = job;
    const isRunning = job.state === "running";
    const name = kindName(job.kind);
    this.element.dataset.state = job.state;
    setText(this.title, name);
    setText(this.state, STATES[job.state] ?? job.state);
    this.state.className = `badge ${{ running: "live", done: "good", failed: "bad" }[job.state] ?? ""}`;
    setText(this.of, aboutText(job));
    const share = job.progress?.share;
    // A recording has no end to come nearer to.
    this.track.hidden = !isRunning || (!isOurs(job) && (share === null || share === undefined));
    this.track.setAttribute("aria-label", `Progress of ${name}`);
    this.bar.classList.toggle("unsure", isRunning && (share === null || share === undefined));
    if (share === null || share === undefined) {
      this.track.removeAttribute("aria-valuenow");
      this.bar.style.width = "";
    } else {
      this.track.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
      this.bar.style.width = `${(share * 100).toFixed(1)}%`;
    }
    setText(this.text, job.progress?.text ?? "");
    this.text.hidden = !job.progress?.text;
    setText(this.error, job.error ?? "");
    this.error.hidden = !job.error;
    const lines = (job.log ?? []).join("\n");
    this.details.hidden = !lines;
    if (this.log.textContent !== lines) {
      const isAtEnd = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 8;
      this.log.textContent = lines;
      if (isAtEnd) this.log.scrollTop = this.log.scrollHeight;
    }
    this.stop.hidden = !isRunning || !isOurs(job);
    this.stop.setAttribute("aria-label", `Stop ${name}`);
    this.certificate.hidden = job.kind !== "verify" || job.state !== "done" || !isOurs(job);
    this.certificate.href = `/certificate/${encodeURIComponent(job.id)}`;
  }

  async #stop() {
    this.stop.disabled = true;
    try {
      await request(`jobs/${encodeURIComponent(this.job.id)}`, { method: "DELETE" });
    } catch (error) {
      showProblem(error);
    } finally {
      this.stop.disabled = false;
    }
  }
}

// Those that another process runs can be seen, and not stopped from here.
const isOurs = (job) => job.origin === "page";

function aboutText(job) {
  const started = Date.parse(job.started);
  const parts = [];
  const symbols = Array.isArray(job.symbols) ? job.symbols : job.symbols ? [job.symbols] : [];
  if (symbols.length) parts.push(symbols.slice(0, 8).join(", ") + (symbols.length > 8 ? ` and ${symbols.length - 8} more` : ""));
  if (started) parts.push(job.state === "running" ? `for ${period((Date.now() - started) / 1000)}` : `started ${dateTime(started)}`);
  const ended = Date.parse(job.ended);
  if (ended) parts.push(`ended ${time(ended)} after ${period((ended - started) / 1000)}`);
  if (!isOurs(job)) parts.push(job.host ? `another process on ${job.host}` : "another process");
  return parts.join(" · ");
}
