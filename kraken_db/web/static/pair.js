// The page of a pair: the chart, what is under its cursor, and the trades of that candle.

import { request } from "./api.js";
import { Chart } from "./chart.js";
import { spoken } from "./chart_draw.js";
import { STEP } from "./chart_input.js";
import { NAMES } from "./chart_source.js";
import { $, debounce, h, press, say, setText } from "./dom.js";
import { Events } from "./events.js";
import { DAY, HOUR, MINUTE, count, date, dateTime, decimal, iso, plural, time, zoneLabel } from "./format.js";
import { readPair, showPair, showPrice } from "./pair_head.js";
import { onZone, store, stored } from "./settings.js";
import { hideProblem, onKey, onTheme, showLive, showProblem } from "./shell.js";

const RANGES = { "1h": HOUR, "6h": 6 * HOUR, "1d": DAY, "1w": 7 * DAY, "1mo": 30 * DAY, "1y": 365 * DAY };
const MOST_TRADES = 200;
const MOST_ROWS = 200;
const MOST_OF_A_MINUTE = 10_000;
const NOTHING = {
  covered: "Quiet: nothing was traded.",
  unknown: "Unknown: no source covers this time.",
  gap: "A gap: this time is missing, and can be filled.",
};

const { symbol } = document.body.dataset;
const chart = new Chart($("chart"), symbol, {
  view: onView,
  cursor: onCursor,
  paint: onPaint,
  problem: showTrouble,
  recovered: hideProblem,
});
let asked = null;

function showTrouble(error) {
  showProblem(error, () => (chart.reload(), readNewest()));
}

const rememberView = debounce(400, () => {
  const query = new URLSearchParams({ from: iso(chart.from), to: iso(chart.to) });
  if (chart.fixed !== null) query.set("interval", chart.fixed);
  history.replaceState(null, "", `?${query}`);
});

function onView() {
  press($("ranges"), null);
  rememberView();
}

function onPaint(scene) {
  setText($("span-text"), `${NAMES[scene.minutes]} candles, ${spanText(scene)}, ${zoneLabel()}`);
  const note = !scene.whole ? "" : scene.candles.length ? "" : "No candles in view";
  $("chart-note").hidden = !note;
  setText($("chart-note"), note);
  if (!chart.cursor) showReadout(scene.candles.at(-1), null, scene.minutes);
  if ($("as-table").open) fillTable();
}

function spanText({ from, to }) {
  if (to - from > 2 * DAY) return `${date(from)} to ${date(Math.min(to, Date.now()))}`;
  return `${dateTime(from)} to ${dateTime(Math.min(to, Date.now()))}`;
}

function showReadout(candle, cursor, minutes) {
  const ms = candle?.time ?? cursor?.ms;
  if (ms === undefined) return $("readout").replaceChildren(h("span", { class: "soft" }, "\u00a0"));
  const when = h("span", { class: "when" }, `${NAMES[minutes]}  ${minutes >= 1440 ? date(ms) : dateTime(ms)}`);
  if (!candle) return $("readout").replaceChildren(when, h("span", { class: "soft" }, cursor.isLoading ? "…" : NOTHING[cursor.kind] ?? "Nothing is stored here."));
  const change = candle.open ? ((candle.close - candle.open) / candle.open) * 100 : 0;
  const part = (name, value) => h("span", { class: "part" }, h("i", {}, name), value);
  $("readout").replaceChildren(
    when, part("O", decimal(candle.open)), part("H", decimal(candle.high)), part("L", decimal(candle.low)), part("C", decimal(candle.close)),
    h("span", { class: candle.close >= candle.open ? "part up" : "part down" }, `${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(2)} %`),
    part("Vol", decimal(candle.volume)), h("span", { class: "part soft" }, `${plural(candle.trades ?? 0, "trade")}${candle.isRunning ? " so far" : ""}`),
  );
}

function onCursor(cursor) {
  if (!cursor) return chart.scene && onPaint(chart.scene);
  showReadout(cursor.candle, cursor, cursor.minutes);
  if (cursor.isLoading) return;
  if (cursor.byKey) sayCandle(cursor);
  loadTrades(cursor);
}

const sayCandle = debounce(150, ({ candle, kind, ms, minutes }) => say(spoken(candle, kind, ms, minutes)));

const loadTrades = debounce(140, async (cursor) => {
  asked?.abort();
  if (!cursor.candle) return showTrades([], cursor);
  asked = new AbortController();
  try {
    const query = {
      symbol, start: iso(cursor.ms), end: iso(cursor.ms + cursor.minutes * MINUTE), limit: String(MOST_TRADES),
    };
    showTrades((await request("trades", { query, signal: asked.signal })).rows, cursor);
  } catch (error) {
    showTrouble(error);
  }
});

function showTrades(rows, { candle, ms, minutes, kind, isKept }) {
  $("trades").hidden = !rows.length;
  const when = `${NAMES[minutes]} candle of ${minutes >= 1440 ? date(ms) : dateTime(ms)}`;
  const of = candle?.trades ?? 0;
  let text = `${when}: `;
  if (rows.length) text += of > rows.length ? `the first ${count(rows.length)} of ${plural(of, "trade")}` : plural(rows.length, "trade");
  else if (of) text += `${plural(of, "trade")}, of which only the candle is stored`;
  else text = NOTHING[kind] ?? "Nothing is stored here.";
  setText($("trades-of"), `${text}${isKept ? ", kept" : ""}`);
  const fine = minutes < 1440;
  $("trades").tBodies[0].replaceChildren(...rows.map(([at, , price, amount, side]) => {
    const stamp = Date.parse(at);
    return h("tr", {},
      h("td", { title: at }, fine ? time(stamp, true) : `${date(stamp).slice(5)} ${time(stamp, true)}`),
      h("td", { class: "number" }, decimal(price)),
      h("td", { class: "number" }, decimal(amount)),
      h("td", { class: side === "buy" || side === "b" ? "up" : "down" }, { b: "buy", s: "sell" }[side] ?? side));
  }));
}

function fillTable() {
  const { candles = [], minutes } = chart.scene ?? {};
  const rows = candles.slice(-MOST_ROWS).reverse().map((candle) =>
    h("tr", {}, h("td", {}, minutes >= 1440 ? date(candle.time) : dateTime(candle.time)),
      ...["open", "high", "low", "close", "volume"].map((name) => h("td", { class: "number" }, decimal(candle[name]))),
      h("td", { class: "number" }, count(candle.trades ?? 0))));
  $("as-table").querySelector("tbody").replaceChildren(...rows);
}

function showRange(name) {
  if (!chart.isReady) {
    store("range", name);
    return press($("ranges"), $("ranges").querySelector(`[data-range="${name}"]`));
  }
  if (name === "all") chart.showAll();
  else chart.showLast(RANGES[name]);
  press($("ranges"), $("ranges").querySelector(`[data-range="${name}"]`));
  store("range", name);
}

function setLog(isLog) {
  chart.isLog = isLog;
  $("log").setAttribute("aria-pressed", String(isLog));
  store("log", isLog ? "1" : "");
  chart.repaint();
}

function begin(pair) {
  showPair(pair, symbol);
  if (!pair) return;
  const newest = Date.parse(pair.newest_trade ?? pair.newest_candle ?? pair.coverage.end ?? iso(Date.now()));
  const first = Date.parse(pair.coverage.start ?? iso(newest - 30 * DAY));
  chart.setBounds(first, Math.max(newest, Date.parse(pair.newest_candle ?? 0) + MINUTE || 0));
  chart.setLastPrice(pair.price);
  const query = new URLSearchParams(location.search);
  const [from, to] = [Date.parse(query.get("from")), Date.parse(query.get("to"))];
  const fixed = query.get("interval");
  if (fixed in NAMES) {
    chart.fixed = Number(fixed);
    $("interval").value = fixed;
  }
  if (to > from) chart.show(from, to);
  else showRange(stored("range", "1w"));
  showLive(new Events({ symbol })
    .on("open", readNewest)
    .on("reset", () => (chart.reload(), readNewest()))
    .on("candle", (event) => event.symbol === symbol && chart.changed(event.row))
    .on("trade-price", (event) => {
      if (event.symbol !== symbol) return;
      showPrice(event.price);
      chart.setLastPrice(event.price);
      loadRunning(Date.parse(event.time));
    }));
}

async function readNewest() {
  try {
    const pair = await readPair(symbol);
    showPair(pair, symbol);
    chart.setLastPrice(pair.price);
    if (pair.newest_trade) loadRunning(Date.parse(pair.newest_trade));
  } catch (error) {
    showTrouble(error);
  }
}

// The minute that goes on, out of its trades. The next news asks again, if an answer is still awaited.
let isAsking = false;
async function loadRunning(ms) {
  if (isAsking) return;
  isAsking = true;
  const start = Math.floor(ms / MINUTE) * MINUTE;
  try {
    const query = { symbol, start: iso(start), end: iso(start + MINUTE), limit: String(MOST_OF_A_MINUTE) };
    const { rows, next } = await request("trades", { query });
    if (next === null) chart.traded(rows);
  } catch (error) {
    showTrouble(error);
  } finally {
    isAsking = false;
  }
}

$("ranges").addEventListener("click", (event) => event.target.dataset.range && showRange(event.target.dataset.range));
$("interval").addEventListener("change", () => {
  chart.fixed = $("interval").value === "auto" ? null : Number($("interval").value);
  chart.repaint();
  rememberView();
});
$("log").addEventListener("click", () => setLog(!chart.isLog));
$("zoom-in").addEventListener("click", () => chart.zoomBy(1 / (STEP * STEP)));
$("zoom-out").addEventListener("click", () => chart.zoomBy(STEP * STEP));
$("newest").addEventListener("click", () => chart.goToNewest());
$("as-table").addEventListener("toggle", fillTable);
onZone(() => chart.repaint());
onTheme(() => chart.recolour());
onKey("l", "logarithmic prices", () => setLog(!chart.isLog));
onKey("c", "the chart, for its keys", () => $("chart").focus());
onKey("v", "coverage of this pair", () => location.assign(location.pathname.replace("/pair/", "/coverage/")));
for (const [index, name] of ["1h", "6h", "1d", "1w", "1mo", "1y", "all"].entries()) {
  onKey(String(index + 1), `range: ${name}`, () => showRange(name));
}
setLog(stored("log", "") === "1");
readPair(symbol).then(begin, (error) => showProblem(error, () => location.reload()));
