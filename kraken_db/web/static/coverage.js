// What is known of a pair, day by day and by source; its gaps, why they are there, and how they are filled.

import { request } from "./api.js";
import { Calendar, SOURCES, describe } from "./calendar.js";
import { $, h, press, setText } from "./dom.js";
import { Events } from "./events.js";
import { dateTime, iso, period, plural, share } from "./format.js";
import { JobCard } from "./job_card.js";
import { readPair, showPair, showPrice } from "./pair_head.js";
import { onZone } from "./settings.js";
import { onKey, showLive, showProblem } from "./shell.js";

const MOST_GAPS = 100;
const { symbol } = document.body.dataset;
const calendar = new Calendar($("calendar"), showDay);
let dataType = new URLSearchParams(location.search).get("of") === "candles" ? "candles" : "trades";
let days = [];
let gaps = [];
let chosen = null;
const cards = new Map();

async function loadCalendar() {
  const wanted = dataType;
  try {
    const answer = await request("calendar", { query: { symbol, data_type: wanted } });
    if (wanted !== dataType) return;
    ({ days } = answer);
    calendar.show(days);
    showSources();
    const covered = days.reduce((sum, day) => sum + day.covered, 0) / (days.length || 1);
    const gapped = days.filter((day) => day.gap).length;
    setText($("calendar-text"), days.length
      ? `${share(gapped && covered >= 1 ? 0.99999 : covered)} of ${plural(days.length, "day")} covered${gapped ? `, ${plural(gapped, "day")} with a gap` : ""}. Days are in UTC.`
      : `No source covers ${dataType} of ${symbol}.`);
    if (chosen) calendar.choose(chosen);
  } catch (error) {
    showProblem(error, loadCalendar);
  }
}

function showSources() {
  const used = Object.keys(SOURCES).filter((name) => days.some((day) => day.sources.includes(name)));
  const button = (name) => h("button", { type: "button", "aria-pressed": "false", "data-source": name, onclick: (event) => toggle(event.currentTarget) },
    h("i", { class: "swatch", "data-source": name }), SOURCES[name]);
  $("sources").replaceChildren(...used.map(button));
  $("sources").hidden = !used.length;
}

function toggle(button) {
  const isOn = button.getAttribute("aria-pressed") === "true";
  press($("sources"), isOn ? null : button);
  calendar.highlight(isOn ? null : button.dataset.source);
}

async function loadGaps() {
  try {
    const answer = await request("gaps", { query: { symbol } });
    gaps = answer.map((gap) => ({ ...gap, start: Date.parse(gap.start), end: Date.parse(gap.end) }));
    showGaps();
  } catch (error) {
    showProblem(error, loadGaps);
  }
}

function showGaps() {
  const found = gaps;
  setText($("gaps-title"), found.length ? plural(found.length, "gap") : "No gaps");
  const parts = [];
  if (!found.length) {
    parts.push(h("p", { class: "soft" }, days.length ? "Every source has been asked, and nothing is missing." : "Nothing is stored, so nothing can be missing."));
  } else {
    parts.push(fillButton());
    parts.push(h("ul", { class: "gap-list" }, ...found.slice(0, MOST_GAPS).map(gapItem)));
    if (found.length > MOST_GAPS) parts.push(h("p", { class: "soft" }, `The first ${MOST_GAPS} are shown.`));
  }
  $("gaps").replaceChildren(...parts);
}

const WHY = {
  inside: "No source covers this time. Before and after it all is known.",
  end: "No source covers the time since then.",
};
const whyOf = (gap) => WHY[gap.kind] ?? gap.why;

function gapItem(gap) {
  return h("li", { class: "card gap-item" },
    h("p", { class: "gap-when" }, h("button", { type: "button", class: "link", onclick: () => calendar.choose(iso(gap.start).slice(0, 10)) }, dateTime(gap.start)),
      ` to ${dateTime(gap.end)} `, h("span", { class: "soft" }, `(${period((gap.end - gap.start) / 1000)})`)),
    h("p", {}, whyOf(gap)),
    h("p", { class: "command soft" }, h("code", {}, gap.fill)));
}

// Jobs fill, as the command line does: all gaps of the pair. The card shows how far it is.
function fillButton() {
  const button = h("button", { type: "button", class: "button main", onclick: () => fill(button) }, `Fill the gaps of ${symbol}`);
  return button;
}

async function fill(button) {
  button.disabled = true;
  try {
    const job = await request("jobs", { method: "POST", body: { kind: "gaps-fill", arguments: { symbols: [symbol] } } });
    const card = new JobCard();
    cards.set(job.id, card);
    card.show(job);
    $("filling").replaceChildren(card.element);
    follow(job.id);
  } catch (error) {
    showProblem(error);
    button.disabled = false;
  }
}

// Events bring the same; this is for a connection that brings none.
async function follow(id) {
  try {
    const job = (await request("jobs")).find((one) => one.id === id);
    if (job) onJob(job);
    if (!job || job.state !== "running") return;
  } catch {
    // Asked again below.
  }
  setTimeout(follow, 1500, id);
}

function onJob(job) {
  const card = cards.get(job.id);
  if (!card || (card.job.state !== "running" && job.state === card.job.state)) return;
  card.show(job);
  if (job.state === "running") return;
  setTimeout(() => {
    cards.delete(job.id);
    loadGaps();
    loadCalendar();
    readPair(symbol).then((pair) => showPair(pair, symbol));
  }, job.state === "done" ? 1200 : 6000);
}

function showDay(day, entry) {
  chosen = day;
  const start = Date.parse(`${day}T00:00:00Z`);
  const end = start + 86_400_000;
  const inside = gaps.filter((gap) => gap.start < end && gap.end > start);
  $("day").hidden = false;
  const from = new URLSearchParams({ from: iso(start), to: iso(end) });
  $("day").replaceChildren(
    h("header", {}, h("h2", {}, day), h("button", { type: "button", class: "tool", "aria-label": "Close", onclick: closeDay }, "×")),
    h("p", {}, describe(day, entry).slice(day.length + 2).replace(/^./, (letter) => letter.toUpperCase()), "."),
    ...inside.map((gap) => h("div", { class: "gap-in-day" }, h("p", {}, h("strong", {}, `${dateTime(gap.start)} to ${dateTime(gap.end)}: `), whyOf(gap)), h("p", { class: "command soft" }, h("code", {}, gap.fill)), fillButton())),
    h("p", {}, h("a", { href: `${location.pathname.replace("/coverage/", "/pair/")}?${from}` }, "This day in the chart")),
  );
}

function closeDay() {
  $("day").hidden = true;
  calendar.letGo();
  chosen = null;
}

$("calendar").addEventListener("keydown", (event) => event.key === "Escape" && closeDay());
$("data-type").addEventListener("click", (event) => {
  if (!event.target.dataset.type) return;
  dataType = event.target.dataset.type;
  begin();
});

function begin() {
  press($("data-type"), $("data-type").querySelector(`[data-type="${dataType}"]`));
  history.replaceState(null, "", dataType === "trades" ? location.pathname : "?of=candles");
  loadCalendar();
  showGaps();
}

onZone(showGaps);
onKey("v", "the chart of this pair", () => location.assign(location.pathname.replace("/coverage/", "/pair/")));
readPair(symbol).then((pair) => {
  showPair(pair, symbol);
  if (!pair) return;
  begin();
  loadGaps();
}, (error) => showProblem(error, () => location.reload()));
showLive(new Events({ symbol })
  .on("trade-price", (event) => event.symbol === symbol && showPrice(event.price))
  .on("job", onJob)
  .on("reset", loadGaps));
