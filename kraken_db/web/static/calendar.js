// A year as twelve rows of days. It is one picture to the eye, one thing for the keyboard, and each day has words.

import { h, say } from "./dom.js";
import { MONTHS, count, share } from "./format.js";

const DAYS = 31;
export const SOURCES = {
  csv: "archives", rest_trades: "REST trades", rest_ohlc: "REST candles", live: "live",
};
const dayText = (year, month, day) => `${year}-${String(month + 1).padStart(2, "0")}-${String(day).padStart(2, "0")}`;
const daysIn = (year, month) => new Date(Date.UTC(year, month + 1, 0)).getUTCDate();

export function describe(day, entry) {
  if (!entry) return `${day}: before the first or after the last day that is known`;
  const parts = [`${day}: ${share(entry.covered)} covered`];
  if (entry.sources.length) parts.push(`by ${entry.sources.map((name) => SOURCES[name] ?? name).join(", ")}`);
  if (entry.gap) parts.push("with a gap");
  return parts.join(", ");
}

export class Calendar {
  // `onDay(day, entry)`: a day was chosen.
  constructor(element, onDay) {
    this.element = element;
    this.onDay = onDay;
    this.days = new Map();
    this.only = null;
    element.addEventListener("click", (event) => this.#onClick(event));
    element.addEventListener("keydown", (event) => this.#onKey(event));
    element.addEventListener("pointerover", (event) => this.#onOver(event));
  }

  show(days) {
    this.days = new Map(days.map((entry) => [entry.day, entry]));
    const years = [...new Set(days.map((entry) => Number(entry.day.slice(0, 4))))].reverse();
    this.element.replaceChildren(...years.map((year) => this.#year(year)));
    const first = this.#last() ?? null;
    this.#aim(first && this.element.querySelector(`[data-day="${first}"]`));
  }

  highlight(source) {
    this.only = source;
    this.element.dataset.only = source ?? "";
    for (const cell of this.element.querySelectorAll("[data-day]")) {
      cell.classList.toggle("dim", Boolean(source) && !this.days.get(cell.dataset.day)?.sources.includes(source));
    }
  }

  #last() {
    return [...this.days.keys()].at(-1);
  }

  #year(year) {
    const known = [...this.days.values()].filter((entry) => entry.day.startsWith(`${year}-`));
    const gaps = known.filter((entry) => entry.gap).length;
    const covered = known.reduce((sum, entry) => sum + entry.covered, 0) / (known.length || 1);
    const summary = `${share(covered >= 1 && gaps ? 0.99999 : covered)} covered${gaps ? `, ${count(gaps)} ${gaps === 1 ? "day" : "days"} with a gap` : ""}`;
    const grid = h("div", { class: "year-grid", role: "grid", "aria-label": `${year}: ${summary}`, "aria-readonly": "true" });
    for (let month = 0; month < 12; month += 1) {
      const row = h("div", { role: "row", class: "month" }, h("span", { role: "rowheader" }, MONTHS[month]));
      for (let day = 1; day <= DAYS; day += 1) row.append(day <= daysIn(year, month) ? this.#day(year, month, day) : h("span", { class: "no-day", role: "gridcell", "aria-hidden": "true" }));
      grid.append(row);
    }
    return h("section", { class: "year", "aria-label": String(year) }, h("header", {}, h("h2", {}, String(year)), h("p", { class: gaps ? "bad-text" : "soft" }, summary)), grid);
  }

  #day(year, month, day) {
    const key = dayText(year, month, day);
    const entry = this.days.get(key);
    const cell = h("span", { role: "gridcell", class: "day", "data-day": key, tabindex: "-1", "aria-label": describe(key, entry) });
    if (!entry) cell.classList.add("outside");
    else if (entry.covered <= 0) cell.classList.add("unknown");
    else {
      cell.dataset.source = entry.sources[0] ?? "";
      if (entry.sources.length > 1) cell.classList.add("several");
      if (entry.covered < 1) cell.classList.add("part");
    }
    if (entry?.gap) cell.classList.add("gap");
    return cell;
  }

  // One day of all of them is in the order of Tab.
  #aim(cell) {
    if (!cell) return;
    this.aimed?.setAttribute("tabindex", "-1");
    cell.setAttribute("tabindex", "0");
    this.aimed = cell;
  }

  letGo() {
    this.element.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
  }

  choose(day) {
    const cell = this.element.querySelector(`[data-day="${CSS.escape(day)}"]`);
    if (!cell) return;
    this.letGo();
    cell.setAttribute("aria-selected", "true");
    this.#aim(cell);
    this.onDay(day, this.days.get(day) ?? null);
  }

  #onClick(event) {
    const cell = event.target.closest("[data-day]");
    if (cell) this.choose(cell.dataset.day);
  }

  #onOver(event) {
    const cell = event.target.closest("[data-day]");
    if (cell && !cell.title) cell.title = cell.getAttribute("aria-label");
  }

  #onKey(event) {
    const { day } = event.target.dataset;
    if (!day) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return this.choose(day);
    }
    const to = moved(day, event.key);
    const cell = to && this.element.querySelector(`[data-day="${to}"]`);
    if (to) event.preventDefault();
    if (!cell) return;
    this.#aim(cell);
    cell.focus();
    say(cell.getAttribute("aria-label"));
  }
}

function moved(day, key) {
  const [year, month, date] = day.split("-").map(Number);
  const at = (y, m, d) => new Date(Date.UTC(y, m, d)).toISOString().slice(0, 10);
  const inMonth = (y, m) => at(y, m, Math.min(date, daysIn(y, m)));
  return {
    ArrowLeft: () => at(year, month - 1, date - 1), ArrowRight: () => at(year, month - 1, date + 1),
    ArrowUp: () => inMonth(year, month - 2), ArrowDown: () => inMonth(year, month),
    PageUp: () => inMonth(year - 1, month - 1), PageDown: () => inMonth(year + 1, month - 1),
    Home: () => at(year, month - 1, 1), End: () => at(year, month - 1, daysIn(year, month - 1)),
  }[key]?.();
}
