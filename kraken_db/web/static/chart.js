// A candle chart: what is in view, and what is under the cursor.
//
// A move paints at once, with what is loaded; candles of another interval replace it when they are all there.

import { layout, paint, paintCursor, readColours } from "./chart_draw.js";
import { listen } from "./chart_input.js";
import { CandleSource, StretchSource, firstFrom, intervalFor, opensAt } from "./chart_source.js";
import { DAY, MINUTE } from "./format.js";

const CANDLE_WIDTH = 3.5;
const LEAST_SPAN = 10 * MINUTE;
const MOST_CANDLES = 2500;
const AIR = 0.04;

export class Chart {
  // `on`: view, cursor({candle, kind, ms, minutes, isKept} or null), problem(error), recovered().
  constructor(element, symbol, on) {
    this.element = element;
    this.on = on;
    this.base = element.querySelector("#chart-base");
    this.top = element.querySelector("#chart-cursor");
    const onLoad = () => this.repaint();
    this.source = new CandleSource(symbol, { onLoad, onProblem: on.problem, onRecovered: on.recovered });
    this.stretches = new StretchSource(symbol, { onLoad });
    this.fixed = null;
    this.isLog = false;
    this.lastPrice = null;
    this.cursor = null;
    this.shown = null;
    this.first = Date.now() - 30 * DAY;
    this.newest = Date.now();
    this.from = this.newest - DAY;
    this.to = this.newest;
    this.colours = readColours(element);
    this.place = null;
    // Nothing is asked for before it is known what there is.
    this.isReady = false;
    new ResizeObserver(() => this.#resize()).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    listen(element, this);
  }

  get width() {
    return this.place?.plot.width ?? 600;
  }

  get minutes() {
    const fits = intervalFor(this.to - this.from, Math.max(60, this.width / CANDLE_WIDTH));
    if (this.fixed === null) return fits;
    // So many of a fixed interval that nobody could tell them apart: then the one that fits.
    return (this.to - this.from) / (this.fixed * MINUTE) > MOST_CANDLES ? fits : this.fixed;
  }

  // What can be seen: from the first stored moment to the newest.
  setBounds(first, newest) {
    this.first = first;
    this.newest = newest;
    this.source.first = first - DAY;
    this.isReady = true;
  }

  show(from, to) {
    const now = Math.max(this.newest, Date.now());
    const most = Math.max((now - this.first) * 1.1, DAY);
    let span = Math.min(Math.max(to - from, LEAST_SPAN), most);
    let start = to - from > most ? now + span * AIR - span : from;
    start = Math.min(Math.max(start, this.first - span * 0.8), now - span * 0.2);
    this.from = start;
    this.to = start + span;
    this.repaint();
    this.on.view(this);
  }

  showLast(span) {
    this.show(this.newest - span, this.newest + span * AIR);
  }

  showAll() {
    const span = this.newest - this.first;
    this.show(this.first - span * 0.01, this.newest + span * AIR);
  }

  get isAtNewest() {
    return this.from < this.newest && this.newest <= this.to;
  }

  zoomBy(factor, x = this.width / 2) {
    const at = this.from + ((this.to - this.from) * Math.min(x, this.width)) / this.width;
    const most = Math.max((Math.max(this.newest, Date.now()) - this.first) * 1.1, DAY);
    const span = Math.min(Math.max((this.to - this.from) * factor, LEAST_SPAN), most);
    const from = at - ((at - this.from) * span) / (this.to - this.from);
    this.show(from, from + span);
  }

  moveBy(pixels) {
    const by = (pixels * (this.to - this.from)) / this.width;
    this.show(this.from + by, this.to + by);
  }

  goToOldest() {
    const span = this.to - this.from;
    this.show(this.first - span * AIR, this.first + span * (1 - AIR));
    this.#point(opensAt(this.first, this.minutes), null);
  }

  goToNewest() {
    const span = this.to - this.from;
    this.show(this.newest + span * AIR - span, this.newest + span * AIR);
    this.#point(opensAt(this.newest, this.minutes), null);
  }

  pointAt(x, y) {
    if (this.cursor?.isKept) return;
    if (x > this.width) return this.pointAway();
    this.#point(opensAt(this.from + (x * (this.to - this.from)) / this.width, this.minutes), y);
  }

  pointAway() {
    if (!this.cursor?.isKept) this.letGo();
  }

  keepAt(x, y) {
    if (x > this.width) return;
    const ms = opensAt(this.from + (x * (this.to - this.from)) / this.width, this.minutes);
    const isSame = this.cursor?.isKept && this.cursor.ms === ms;
    this.#point(ms, y, !isSame);
  }

  keep() {
    if (this.cursor) this.#point(this.cursor.ms, null, !this.cursor.isKept);
  }

  letGo() {
    this.cursor = null;
    this.#paintCursor();
    this.on.cursor(null);
  }

  // By keys: from candle to candle, quiet and unknown ones too.
  stepBy(steps) {
    const length = this.minutes * MINUTE;
    const start = this.cursor ? opensAt(this.cursor.ms, this.minutes) : opensAt(Math.min(this.to, this.newest), this.minutes);
    const ms = this.cursor ? start + steps * length : start;
    if (ms < this.from || ms + length > this.to) this.moveBy((steps * this.width) / 3);
    this.#point(ms, null);
  }

  // A 1m candle was stored.
  changed(row) {
    this.stretches.forgetAll();
    this.#goAlong(this.source.changed(row));
  }

  // Trades of the minute that goes on.
  traded(trades) {
    const opens = this.source.setRunning(trades);
    if (opens !== null) this.#goAlong(opens);
  }

  // A view that ends with the newest candle moves with it.
  #goAlong(opens) {
    const follows = this.isAtNewest;
    const closes = opens + MINUTE;
    if (closes <= this.newest) return this.repaint();
    const by = closes - this.newest;
    this.newest = closes;
    if (follows) this.show(this.from + by, this.to + by);
    else this.repaint();
  }

  setLastPrice(price) {
    this.lastPrice = price;
    this.repaint();
  }

  reload() {
    this.source.forgetAll();
    this.stretches.forgetAll();
    this.repaint();
  }

  recolour() {
    this.colours = readColours(this.element);
    this.repaint();
  }

  repaint() {
    if (!this.isReady) return;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#paint();
    });
  }

  #scene() {
    const { minutes, from, to } = this;
    const opens = opensAt(from, minutes);
    this.source.want(minutes, opens, to);
    this.stretches.want(minutes, from, to);
    const wanted = this.source.read(minutes, opens, to);
    if (wanted.whole) this.shown = minutes;
    const shown = wanted.whole || this.shown === null ? minutes : this.shown;
    const first = shown === minutes ? opens : opensAt(from, shown);
    return {
      minutes: shown, from, to, opens: first, isLog: this.isLog, lastPrice: this.lastPrice, whole: wanted.whole,
      candles: shown === minutes ? wanted.candles : this.source.read(shown, first, to).candles,
      before: this.source.before(shown, first),
      stretches: this.stretches.read(from, Math.min(to, Date.now())),
    };
  }

  #paint() {
    const box = this.element.getBoundingClientRect();
    if (!box.width || !box.height) return;
    this.place ??= layout(box.width, box.height, { from: this.from, to: this.to, candles: [], isLog: false, lastPrice: this.lastPrice });
    const scene = (this.scene = this.#scene());
    this.place = layout(box.width, box.height, scene);
    paint(this.#context(this.base, box), this.place, scene, this.colours);
    this.#paintCursor();
    if (this.cursor) this.#report();
    this.on.paint(scene);
    this.element.dispatchEvent(new CustomEvent("painted", { detail: { minutes: scene.minutes, whole: scene.whole, candles: scene.candles.length } }));
  }

  #paintCursor() {
    if (!this.scene) return;
    const box = this.element.getBoundingClientRect();
    paintCursor(this.#context(this.top, box), this.place, this.scene, this.colours, this.cursor);
  }

  #context(canvas, box) {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }

  #resize() {
    this.place = null;
    this.repaint();
  }

  #point(ms, y, isKept = false) {
    this.cursor = { ms, y, isKept };
    this.#paintCursor();
    this.#report(true);
  }

  // What is under the cursor; once more when that is loaded, or has changed.
  #report(isNew = false) {
    const { ms, y, isKept } = this.cursor;
    const candles = this.scene?.candles ?? [];
    const found = candles[firstFrom(candles, ms)];
    const candle = found?.time === ms ? found : null;
    const kind = this.stretches.kindAt(ms);
    const isLoading = !candle && (!this.scene?.whole || this.scene.minutes !== this.minutes || !this.stretches.has(ms));
    const said = this.reported;
    if (!isNew && said.candle === candle && said.kind === kind && said.isLoading === isLoading) return;
    this.reported = { candle, kind, isLoading };
    this.on.cursor({ candle, kind, isLoading, ms, minutes: this.minutes, isKept, byKey: y === null });
  }
}
