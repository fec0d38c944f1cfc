// All pairs: what needs attention first, then all of them, to be searched and sorted.

import { request } from "./api.js";
import { $, debounce, h, press, setText } from "./dom.js";
import { Events } from "./events.js";
import { count, plural, shortCount, size } from "./format.js";
import { Rows } from "./overview_rows.js";
import { hideProblem, matching, onKey, showLive, showProblem } from "./shell.js";

const EVERY = 30_000;

const bySymbol = (a, b) => (a.symbol < b.symbol ? -1 : 1);
const rowsOf = (pair) => pair.trades + pair.candles;
const down = (value) => (a, b) => (value(b) ?? -1) - (value(a) ?? -1) || bySymbol(a, b);
// What is worst for each: long lags, little coverage, many gaps come first.
const ORDERS = {
  trouble: (a, b) => b.trouble.length - a.trouble.length || b.gaps - a.gaps || rowsOf(b) - rowsOf(a) || bySymbol(a, b),
  symbol: bySymbol,
  price: down((pair) => Number(pair.price ?? -1)),
  lag: down((pair) => (pair.ended_at ? -2 : pair.lag_seconds)),
  coverage: (a, b) => (a.coverage.share ?? 2) - (b.coverage.share ?? 2) || bySymbol(a, b),
  gaps: down((pair) => pair.gaps),
  rows: down(rowsOf),
  size: down((pair) => pair.size),
};
const KINDS = {
  all: () => true,
  trouble: (pair) => pair.trouble.length > 0,
  live: (pair) => pair.status === "live",
  ended: (pair) => Boolean(pair.ended_at),
};

const query = new URLSearchParams(location.search);
const state = {
  text: query.get("q") ?? "",
  only: query.get("only") in KINDS ? query.get("only") : "all",
  sort: query.get("sort") in ORDERS ? query.get("sort") : "trouble",
  isReversed: query.has("reversed"),
};
const rows = new Rows($("rows"));
let pairs = [];

const remember = debounce(300, () => {
  const said = new URLSearchParams();
  if (state.text) said.set("q", state.text);
  if (state.only !== "all") said.set("only", state.only);
  if (state.sort !== "trouble") said.set("sort", state.sort);
  if (state.isReversed) said.set("reversed", "1");
  history.replaceState(null, "", said.size ? `?${said}` : location.pathname);
});

function show() {
  const found = new Set(state.text.trim() ? matching(state.text, pairs.map((pair) => pair.symbol)) : pairs.map((pair) => pair.symbol));
  const chosen = pairs.filter((pair) => found.has(pair.symbol) && KINDS[state.only](pair)).sort(ORDERS[state.sort]);
  if (state.isReversed) chosen.reverse();
  $("pairs").setAttribute("aria-rowcount", String(chosen.length + 1));
  rows.show(chosen);
  setText($("shown"), chosen.length === pairs.length ? "" : `${count(chosen.length)} of ${count(pairs.length)} pairs`);
  $("pairs").hidden = !chosen.length;
  showEmpty(chosen.length);
  for (const head of document.querySelectorAll("[data-sort]")) {
    const isIt = head.dataset.sort === state.sort;
    const isUp = (state.sort === "symbol" || state.sort === "coverage") !== state.isReversed;
    head.setAttribute("aria-sort", isIt ? (isUp ? "ascending" : "descending") : "none");
  }
  for (const button of document.querySelectorAll("[data-only]")) button.setAttribute("aria-pressed", String(button.dataset.only === state.only));
  $("sort").value = state.sort;
  remember();
}

function showEmpty(number) {
  $("empty").hidden = number > 0;
  if (number) return;
  if (!pairs.length) {
    $("empty").replaceChildren(h("h2", {}, "Nothing is stored yet"), h("p", {}, "A backfill brings the whole history of a pair."), h("a", { class: "button main", href: "/jobs?kind=backfill" }, "Start a backfill"));
  } else if (state.text) {
    $("empty").replaceChildren(h("p", {}, `No pair here is called “${state.text}”.`), h("button", { type: "button", class: "button", onclick: reset }, "Show all pairs"));
  } else {
    $("empty").replaceChildren(h("p", {}, { trouble: "No pair has a problem.", live: "No recording has a pair live now.", ended: "No pair has ended." }[state.only]), h("button", { type: "button", class: "button", onclick: reset }, "Show all pairs"));
  }
}

function reset() {
  Object.assign(state, { text: "", only: "all" });
  $("search").value = "";
  show();
}

function showTotals({ totals, pairs: all }) {
  const troubled = all.filter(KINDS.trouble).length;
  const live = all.filter(KINDS.live).length;
  const others = totals.problems ?? [];
  const verdict = !all.length ? "Nothing is stored yet"
    : troubled ? `${count(troubled)} of ${plural(all.length, "pair")} ${troubled === 1 ? "needs" : "need"} attention`
      : others.length ? `${plural(others.length, "problem")}` : `All ${plural(all.length, "pair")} up to date`;
  setText($("verdict"), verdict);
  $("verdict").dataset.state = troubled || others.length ? "warn" : "good";
  const more = [live ? `${count(live)} recorded live.` : "No recording is running.", ...generalProblems(others)];
  $("verdict-more").replaceChildren(more.join(" "));
  setText($("total-pairs"), count(totals.pairs));
  setText($("total-trades"), shortCount(totals.trades));
  $("total-trades").title = count(totals.trades);
  setText($("total-candles"), shortCount(totals.candles));
  $("total-candles").title = count(totals.candles);
  setText($("total-size"), size(totals.size));
  document.title = troubled ? `(${troubled}) Overview · kraken-db` : "Overview · kraken-db";
}

// Those of the store; those of a pair are in its row.
function generalProblems(problems) {
  const symbols = new Set(pairs.map((pair) => pair.symbol));
  return problems.filter((text) => !symbols.has(text.split(/[ :]/, 1)[0])).map((text) => (/[.!]$/.test(text) ? text : `${text}.`));
}

async function load() {
  try {
    const answer = await request("overview");
    ({ pairs } = answer);
    hideProblem();
    showTotals(answer);
    show();
    $("pairs").setAttribute("aria-busy", "false");
  } catch (error) {
    showProblem(error, load);
  }
}

function sortBy(name) {
  state.isReversed = state.sort === name && name !== "trouble" ? !state.isReversed : false;
  state.sort = name;
  show();
}

$("search").value = state.text;
$("search").addEventListener("input", debounce(60, () => ((state.text = $("search").value), show())));
$("search").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown") return;
  event.preventDefault();
  rows.focus(0);
});
$("sort").addEventListener("change", () => sortBy($("sort").value));
for (const head of document.querySelectorAll("[data-sort] button")) head.addEventListener("click", () => sortBy(head.parentElement.dataset.sort));
for (const button of document.querySelectorAll("[data-only]")) {
  button.addEventListener("click", () => {
    state.only = button.dataset.only;
    press(button.parentElement, button);
    show();
  });
}
onKey("s", "search in the list", () => $("search").focus());
onKey("ArrowDown", "go into the list, and on in it", () => rows.focus(0));
setInterval(() => document.hidden || load(), EVERY);
document.addEventListener("visibilitychange", () => document.hidden || load());
load();
let isFirst = true;
showLive(new Events()
  .on("open", () => (isFirst ? (isFirst = false) : load()))
  .on("trade-price", ({ symbol, price }) => {
    const pair = pairs.find((one) => one.symbol === symbol);
    if (pair) pair.price = price;
    rows.price(symbol, price);
  })
  .on("reset", load));
