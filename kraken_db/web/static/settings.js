// What a viewer has chosen. It is kept in this browser, and is no secret.

export function stored(name, otherwise) {
  try {
    return localStorage.getItem(name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function store(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Forbidden, or full: then it holds for this page.
  }
}

const listeners = new Set();
let utc = stored("zone", "utc") === "utc";

export const isUtc = () => utc;

export function setUtc(value) {
  utc = value;
  store("zone", value ? "utc" : "local");
  for (const listener of listeners) listener();
}

export const onZone = (listener) => listeners.add(listener);

export const zoneName = () => (utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);
