// Candles and stretches of one pair, as the chart needs them: loaded in tiles of some hundred candles, so that a step of
// zoom or a move asks for one or two, and what was seen once is there at once.

import { request } from "./api.js";
import { DAY, MINUTE, iso } from "./format.js";

export const NAMES = { 1: "1m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 240: "4h", 720: "12h", 1440: "1d", 10080: "1w" };
const INTERVALS = Object.keys(NAMES).map(Number);
const TILE = 500;
const MOST_TILES = 160;
const FIRST = Date.UTC(2013, 8, 1);
const WEEK = 10080;
// The first Monday of 1970: weeks open on Mondays.
const MONDAY = 4 * DAY;
const TRY_AGAIN = 3000;

const originOf = (minutes) => (minutes === WEEK ? MONDAY : 0);

// When the candle opens that `ms` lies in.
export function opensAt(ms, minutes) {
  const length = minutes * MINUTE;
  return Math.floor((ms - originOf(minutes)) / length) * length + originOf(minutes);
}

// The shortest interval that gives at most `most` candles of a span.
export const intervalFor = (span, most) => INTERVALS.find((minutes) => span / (minutes * MINUTE) <= most) ?? WEEK;

const candleOf = ([opens, open, high, low, close, vwap, volume, trades]) => ({
  time: Date.parse(opens), open, high, low, close, vwap, volume, trades,
});

export class CandleSource {
  constructor(symbol, { onLoad, onProblem, onRecovered }) {
    this.symbol = symbol;
    this.onLoad = onLoad;
    this.onProblem = onProblem;
    this.onRecovered = onRecovered;
    this.hasFailed = false;
    this.tiles = new Map();
    this.first = FIRST;
    this.running = null;
  }

  // Candles of [from, to) in order, and whether they are all that is stored.
  read(minutes, from, to) {
    let whole = true;
    const candles = [];
    for (const at of this.#tilesOf(minutes, from, to)) {
      const tile = this.tiles.get(`${minutes}:${at}`);
      if (!tile?.candles) {
        whole = false;
        continue;
      }
      // The newest use is the last one: what is at the front is forgotten first.
      this.tiles.delete(tile.key);
      this.tiles.set(tile.key, tile);
      for (let i = firstFrom(tile.candles, from); i < tile.candles.length && tile.candles[i].time < to; i += 1) {
        candles.push(tile.candles[i]);
      }
    }
    this.#addRunning(candles, minutes, from, to);
    return { candles, whole };
  }

  // The minute that goes on is stored when it is over. Until then its trades are added to what is stored.
  #addRunning(candles, minutes, from, to) {
    const { running } = this;
    if (!running || running.time < from || running.time >= to) return;
    const opens = opensAt(running.time, minutes);
    const last = candles.at(-1);
    if (last && last.time > opens) return;
    if (last?.time !== opens) candles.push({ ...running, time: opens });
    else if (minutes === 1) candles[candles.length - 1] = running;
    else candles[candles.length - 1] = joined(last, running);
  }

  // `trades`: rows of the API, all of one minute so far, in order.
  setRunning(trades) {
    const rows = trades.map(([at, , price, amount]) => ({ at: Date.parse(at), price: Number(price), amount: Number(amount) }));
    if (!rows.length) return null;
    const prices = rows.map(({ price }) => price);
    this.running = {
      time: opensAt(rows[0].at, 1), open: prices[0], high: Math.max(...prices), low: Math.min(...prices), close: prices.at(-1),
      vwap: null, volume: Number(rows.reduce((sum, { amount }) => sum + amount, 0).toFixed(10)), trades: rows.length, isRunning: true,
    };
    return this.running.time;
  }

  // The last candle before `ms` among those that are loaded.
  before(minutes, ms) {
    const length = minutes * MINUTE;
    const candles = this.read(minutes, ms - TILE * length, ms).candles;
    return candles.at(-1) ?? null;
  }

  // Ask for what is not there; requests that nobody waits for any more are given up.
  want(minutes, from, to) {
    const wanted = new Set();
    for (const at of this.#tilesOf(minutes, from, to)) {
      const key = `${minutes}:${at}`;
      wanted.add(key);
      const tile = this.tiles.get(key);
      if (!tile || (tile.isStale && !tile.abort && Date.now() >= (tile.notBefore ?? 0))) this.#load(minutes, at, tile);
    }
    for (const [key, tile] of this.tiles) {
      if (!tile.abort || wanted.has(key)) continue;
      tile.abort.abort();
      if (!tile.candles) this.tiles.delete(key);
    }
    this.#forget();
  }

  // A 1m candle was stored, or changed: what shows it is asked for again.
  changed(row) {
    const candle = candleOf(row);
    if (this.running && candle.time >= this.running.time) this.running = null;
    for (const minutes of INTERVALS) {
      const tile = this.tiles.get(`${minutes}:${this.#tileAt(minutes, candle.time)}`);
      if (!tile) continue;
      if (minutes === 1 && tile.candles && !tile.abort) put(tile.candles, candle);
      else tile.isStale = true;
    }
    return candle.time;
  }

  forgetAll() {
    for (const tile of this.tiles.values()) tile.isStale = true;
  }

  #tileAt(minutes, ms) {
    return Math.floor((ms - originOf(minutes)) / (minutes * MINUTE * TILE));
  }

  *#tilesOf(minutes, from, to) {
    const start = Math.max(from, this.first);
    const end = Math.min(to, Date.now() + MINUTE);
    if (end <= start) return;
    for (let at = this.#tileAt(minutes, start); at <= this.#tileAt(minutes, end - 1); at += 1) yield at;
  }

  async #load(minutes, at, old) {
    const key = `${minutes}:${at}`;
    const tile = old ?? { key, candles: null };
    const abort = new AbortController();
    Object.assign(tile, { abort, isStale: false });
    this.tiles.set(key, tile);
    const span = minutes * MINUTE * TILE;
    const start = at * span + originOf(minutes);
    try {
      const query = {
        symbol: this.symbol, interval: NAMES[minutes], start: iso(start), end: iso(start + span),
        limit: String(TILE), numbers: "float",
      };
      const answer = await request("candles", { query, signal: abort.signal });
      tile.candles = answer.rows.map(candleOf);
      if (this.hasFailed) this.onRecovered();
      this.hasFailed = false;
    } catch (error) {
      tile.isStale = true;
      if (error.name === "AbortError") return;
      this.hasFailed = true;
      tile.notBefore = Date.now() + TRY_AGAIN;
      setTimeout(() => this.onLoad(), TRY_AGAIN);
      this.onProblem(error);
    } finally {
      if (tile.abort === abort) tile.abort = null;
    }
    if (tile.candles) this.onLoad();
  }

  #forget() {
    for (const [key, tile] of this.tiles) {
      if (this.tiles.size <= MOST_TILES) return;
      if (!tile.abort) this.tiles.delete(key);
    }
  }
}

const joined = (stored, running) => ({
  ...stored, high: Math.max(stored.high, running.high), low: Math.min(stored.low, running.low), close: running.close, vwap: null,
  volume: Number((stored.volume + running.volume).toFixed(10)), trades: (stored.trades ?? 0) + running.trades, isRunning: true,
});

export function firstFrom(candles, ms) {
  let low = 0;
  let high = candles.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (candles[middle].time < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

function put(candles, candle) {
  const at = firstFrom(candles, candle.time);
  candles.splice(at, candles[at]?.time === candle.time ? 1 : 0, candle);
}

// What is covered, unknown or a gap. Twice as much as is in view is loaded: a move needs no new answer.
export class StretchSource {
  constructor(symbol, { onLoad }) {
    this.symbol = symbol;
    this.onLoad = onLoad;
    this.stretches = [];
    this.from = this.to = 0;
  }

  async want(minutes, from, to) {
    const span = to - from;
    const fits = this.from <= from && (this.to >= to || this.to >= Date.now()) && this.minutes === minutes;
    if (fits && !this.isStale) return;
    if (this.abort) {
      if (this.wanted?.minutes === minutes && this.wanted.from <= from && this.wanted.to >= to) return;
      this.abort.abort();
    }
    const abort = (this.abort = new AbortController());
    const wanted = (this.wanted = { minutes, from: Math.max(from - span, FIRST), to: to + span });
    if (wanted.to <= wanted.from) return;
    try {
      const query = {
        symbol: this.symbol, start: iso(wanted.from), end: iso(Math.min(wanted.to, Date.now())),
      };
      const answer = await request("stretches", { query, signal: abort.signal });
      this.stretches = answer.map((item) => ({ ...item, start: Date.parse(item.start), end: Date.parse(item.end) }));
      Object.assign(this, wanted, { isStale: false });
      this.onLoad();
    } catch {
      // The candles' request fails as well, and says so.
    } finally {
      if (this.abort === abort) this.abort = null;
    }
  }

  forgetAll() {
    this.isStale = true;
  }

  // Those of [from, to), cut to it.
  read(from, to) {
    return this.stretches
      .filter((item) => item.end > from && item.start < to)
      .map((item) => ({ ...item, start: Math.max(item.start, from), end: Math.min(item.end, to) }));
  }

  has(ms) {
    return this.from <= ms && ms < this.to;
  }

  kindAt(ms) {
    return this.stretches.find((item) => item.start <= ms && ms < item.end)?.kind ?? null;
  }
}
