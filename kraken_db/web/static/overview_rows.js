// The rows of the overview. Only those in view, and some around them, are in the page: 1,635 cost no more than forty.

import { h, setText } from "./dom.js";
import { count, decimal, period, share, shortCount, size, slug } from "./format.js";
import { drawSparkline, sparkline } from "./sparkline.js";

const AROUND = 12;

export class Rows {
  constructor(element) {
    this.element = element;
    this.pairs = [];
    this.shown = new Map();
    this.spare = [];
    const later = () => (this.frame ??= requestAnimationFrame(() => ((this.frame = null), this.#place())));
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", () => ((this.height = null), later()));
    element.addEventListener("keydown", (event) => this.#onKey(event));
  }

  show(pairs) {
    this.pairs = pairs;
    this.places = new Map(pairs.map((pair, at) => [pair.symbol, at]));
    this.#place(true);
  }

  // A price that came just now, if its row is in view.
  price(symbol, text) {
    const row = this.shown.get(symbol);
    if (!row) return;
    const isUp = Number(text) >= Number(row.last ?? text);
    const isNew = row.last !== text;
    row.last = text;
    setText(row.price, decimal(text));
    if (!isNew) return;
    row.price.dataset.moved = "";
    void row.price.offsetWidth;
    row.price.dataset.moved = isUp ? "up" : "down";
  }

  focus(at) {
    const place = Math.max(0, Math.min(at, this.pairs.length - 1));
    if (!this.pairs[place]) return;
    const top = this.element.getBoundingClientRect().top + place * this.#rowHeight();
    const room = innerHeight - this.#rowHeight() * 2;
    if (top < 110) scrollBy(0, top - 110);
    else if (top > room) scrollBy(0, top - room);
    this.#place();
    this.shown.get(this.pairs[place].symbol)?.link.focus({ preventScroll: true });
  }

  #onKey(event) {
    const here = this.places.get(event.target.closest("[data-symbol]")?.dataset.symbol);
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, PageDown: here + 10, PageUp: here - 10, Home: 0, End: this.pairs.length - 1 }[event.key];
    if (to === undefined || here === undefined) return;
    event.preventDefault();
    this.focus(to);
  }

  #rowHeight() {
    this.height ??= parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 44;
    return this.height;
  }

  #place(isNew = false) {
    const height = this.#rowHeight();
    this.element.style.height = `${this.pairs.length * height}px`;
    const top = -this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / height) - AROUND);
    const until = Math.min(this.pairs.length, Math.ceil((top + innerHeight) / height) + AROUND);
    const wanted = new Set(this.pairs.slice(first, until).map((pair) => pair.symbol));
    const focused = document.activeElement?.closest?.("[data-symbol]")?.dataset.symbol;
    for (const [symbol, row] of this.shown) {
      // A row that has the focus stays, wherever it is.
      if (wanted.has(symbol) || (symbol === focused && this.places.has(symbol))) continue;
      this.shown.delete(symbol);
      row.element.remove();
      this.spare.push(row);
    }
    let before = null;
    for (let at = first; at < until; at += 1) {
      const pair = this.pairs[at];
      let row = this.shown.get(pair.symbol);
      const isShown = Boolean(row);
      if (!row) {
        row = this.spare.pop() ?? makeRow();
        this.shown.set(pair.symbol, row);
      }
      if (!isShown || isNew) fill(row, pair);
      row.element.style.transform = `translateY(${at * height}px)`;
      row.element.setAttribute("aria-rowindex", String(at + 2));
      const next = before ? before.nextSibling : this.element.firstChild;
      // The order in the page is that of the eye, for Tab and for screen readers.
      if (next !== row.element && !row.element.contains(document.activeElement)) this.element.insertBefore(row.element, next);
      before = row.element;
    }
  }
}

function makeRow() {
  const cell = (name, ...children) => h("span", { role: "cell", class: name }, ...children);
  const row = {
    link: h("a", {}), badge: h("span", { class: "badge" }), spark: sparkline(), price: h("span", { class: "value" }),
    lag: h("span"), bar: h("span", { class: "bar-fill" }), covered: h("span", { class: "value" }), gaps: h("span"), rows: h("span"), size: h("span"),
  };
  row.element = h("div", { role: "row", class: "pair-row" },
    cell("name", row.link, row.badge), cell("course", row.spark), cell("number price-cell", row.price), cell("number lag", row.lag),
    cell("coverage", h("span", { class: "bar-track", "aria-hidden": "true" }, row.bar), row.covered),
    cell("number gaps", row.gaps), cell("number rows", row.rows), cell("number size", row.size));
  return row;
}

const STATES = { live: "live", delisted: "ended", behind: "behind" };

function fill(row, pair) {
  row.element.dataset.symbol = pair.symbol;
  row.element.classList.toggle("troubled", pair.trouble.length > 0);
  setText(row.link, pair.symbol);
  row.link.href = `/pair/${slug(pair.symbol)}`;
  const badge = pair.trouble.length ? pair.trouble.join(", ") : (STATES[pair.status] ?? "");
  setText(row.badge, badge);
  row.badge.className = `badge ${pair.trouble.length ? (pair.gaps ? "bad" : "warn") : pair.status}`;
  drawSparkline(row.spark, pair.spark);
  row.last = pair.price;
  delete row.price.dataset.moved;
  setText(row.price, decimal(pair.price));
  setText(row.lag, pair.ended_at ? "ended" : period(pair.lag_seconds));
  row.bar.style.width = `${Math.floor((pair.coverage.share ?? 0) * 100)}%`;
  row.bar.classList.toggle("whole", pair.coverage.share >= 1);
  row.bar.classList.toggle("nothing", !pair.coverage.share);
  setText(row.covered, share(pair.coverage.share));
  setText(row.gaps, pair.gaps ? count(pair.gaps) : "0");
  row.gaps.classList.toggle("bad-text", pair.gaps > 0);
  const rows = pair.trades + pair.candles;
  setText(row.rows, shortCount(rows));
  row.rows.title = `${count(pair.trades)} trades, ${count(pair.candles)} candles`;
  setText(row.size, size(pair.size));
}
