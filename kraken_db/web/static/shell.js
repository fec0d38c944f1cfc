// What every page has: theme, zone, keys, the list of pairs to jump to, and a sign of life.

import { forgetToken, request, token } from "./api.js";
import { $, h, isTyping, setText } from "./dom.js";
import { slug, zoneLabel } from "./format.js";
import { isUtc, onZone, setUtc, store, stored } from "./settings.js";

const LIVE = {
  live: "Live",
  connecting: "Connecting",
  waiting: "Not connected",
  paused: "Paused",
  off: "Not live",
};

const keys = new Map();

// `key`: as KeyboardEvent has it.
export function onKey(key, what, task) {
  keys.set(key, { what, task });
}

export function showLive(events) {
  events.onState = (state) => {
    $("live").dataset.state = state;
    setText($("live-text"), LIVE[state]);
  };
  return events.start();
}

// What went wrong, where it can be read. `retry`: what a button does about it.
export function showProblem(error, retry) {
  if (error?.name === "AbortError" || error?.status === 401) return;
  const parts = [h("strong", {}, error.message)];
  if (error.hint) parts.push(` ${error.hint}`);
  if (retry) parts.push(" ", h("button", { type: "button", class: "button", onclick: () => (hideProblem(), retry()) }, "Try again"));
  $("problem").replaceChildren(h("p", { class: "notice bad" }, ...parts));
}

export const hideProblem = () => $("problem").replaceChildren();

const THEMES = { auto: "as your system", light: "light", dark: "dark" };
const themeListeners = new Set();
export const onTheme = (listener) => themeListeners.add(listener);

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "auto";
  setText($("theme-text"), `Theme: ${THEMES[theme]}`);
  $("theme").title = `Theme: ${THEMES[theme]} (t)`;
  for (const listener of themeListeners) listener();
}

function nextTheme() {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(stored("theme", "auto")) + 1) % names.length];
  store("theme", next);
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  showTheme();
}

function showZone() {
  setText($("zone"), isUtc() ? "UTC" : "Local");
  $("zone").setAttribute("aria-label", `Times are in ${zoneLabel()}`);
  $("zone").title = `Times are in ${zoneLabel()} (z)`;
}

const MOST = 50;
let symbols = null;

async function openJump() {
  const dialog = $("jump");
  if (dialog.open) return;
  dialog.showModal();
  $("jump-text").select();
  try {
    symbols ??= (await request("symbols")).symbols;
    offer();
  } catch (error) {
    dialog.close();
    showProblem(error);
  }
}

const bare = (text) => text.toUpperCase().replace(/[^A-Z0-9.]/g, "");

// Those that begin with the text before those that contain it.
export function matching(text, all) {
  const wanted = bare(text);
  const rank = (symbol) => (bare(symbol).startsWith(wanted) ? 0 : 1);
  return all.filter((symbol) => bare(symbol).includes(wanted)).sort((a, b) => rank(a) - rank(b));
}

function offer() {
  const found = matching($("jump-text").value, symbols ?? []).slice(0, MOST);
  const rows = found.map((symbol, at) =>
    h("li", { role: "option", id: `jump-${at}`, "data-symbol": symbol, onclick: () => open(symbol) }, symbol));
  $("jump-list").replaceChildren(...(rows.length ? rows : [h("li", { class: "soft", role: "option", "aria-disabled": "true" }, "no pair like this is stored")]));
  choose(0);
}

function choose(at) {
  const rows = [...$("jump-list").querySelectorAll("[data-symbol]")];
  const row = rows[Math.max(0, Math.min(at, rows.length - 1))];
  for (const other of rows) other.setAttribute("aria-selected", String(other === row));
  if (row) {
    $("jump-text").setAttribute("aria-activedescendant", row.id);
    row.scrollIntoView({ block: "nearest" });
  } else $("jump-text").removeAttribute("aria-activedescendant");
}

const chosen = () => [...$("jump-list").children].findIndex((row) => row.getAttribute("aria-selected") === "true");

function open(symbol) {
  const page = document.body.dataset.page === "coverage" ? "coverage" : "pair";
  location.assign(`/${page}/${slug(symbol)}`);
}

function onJumpKey(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in steps) choose(chosen() + steps[event.key]);
  else if (event.key === "Enter") {
    const row = $("jump-list").children[chosen()];
    if (row) open(row.dataset.symbol);
  } else return;
  event.preventDefault();
}

function showKeys() {
  const shown = [...keys].map(([key, { what }]) => h("div", {}, h("dt", {}, h("kbd", {}, key === " " ? "Space" : key)), h("dd", {}, what)));
  $("help-keys").replaceChildren(...shown);
  $("help").showModal();
}

function begin() {
  showTheme();
  showZone();
  onZone(showZone);
  $("theme").addEventListener("click", nextTheme);
  $("zone").addEventListener("click", () => setUtc(!isUtc()));
  $("find").addEventListener("click", openJump);
  $("jump-text").addEventListener("input", offer);
  $("jump-text").addEventListener("keydown", onJumpKey);
  $("jump").addEventListener("click", (event) => event.target === $("jump") && $("jump").close());
  if (token()) {
    $("theme").after(h("button", { type: "button", class: "tool", onclick: () => (forgetToken(), location.assign("/login")) }, "Log out"));
  }
  onKey("/", "find a pair", openJump);
  onKey("z", "times in UTC or in your zone", () => setUtc(!isUtc()));
  onKey("t", "light, dark, or as your system", nextTheme);
  onKey("g", "overview", () => location.assign("/"));
  onKey("j", "jobs", () => location.assign("/jobs"));
  onKey("?", "these keys", showKeys);
  document.addEventListener("keydown", (event) => {
    const key = keys.get(event.key);
    if (!key || event.defaultPrevented || isTyping(event)) return;
    event.preventDefault();
    key.task();
  });
}

begin();
