// Numbers and times as text. Times are ms since 1970, in UTC or by the viewer's clocks.

import { isUtc, zoneName } from "./settings.js";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const grouped = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const two = (number) => String(number).padStart(2, "0");

export const count = (number) => grouped.format(number);
export const shortCount = (number) => (number < 10_000 ? grouped.format(number) : short.format(number));

// A decimal as text, with its digits in groups. Nothing is rounded: "0.0000012300" -> "0.00000123".
export function decimal(text, least = 0) {
  if (text === null || text === undefined) return "–";
  let plain = String(text);
  if (/e/i.test(plain)) plain = Number(plain).toFixed(12);
  let [whole, part = ""] = plain.split(".");
  part = part.replace(/0+$/, "").padEnd(least, "0");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part && `.${part}`);
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let unit = 0;
  let number = bytes;
  while (number >= 1000 && unit < UNITS.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${unit && number < 10 ? number.toFixed(1) : Math.round(number)} ${UNITS[unit]}`;
}

// 75 -> "1 min". Whole units, the largest that fits.
export function period(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h`;
  if (seconds < 730 * 86400) return `${Math.floor(seconds / 86400)} d`;
  return `${Math.floor(seconds / 31_557_600)} y`;
}

// Never "100 %" for what is not complete, nor "0 %" for something.
export function share(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1) return "100 %";
  const percent = value * 100;
  if (percent > 99.99) return "> 99.99 %";
  if (percent > 0 && percent < 0.01) return "< 0.01 %";
  return `${percent.toFixed(percent > 99 ? 2 : 1).replace(/\.0$/, "")} %`;
}

// [year, month from 0, day, hour, minute, second] by the clocks that are shown.
export function clock(ms) {
  const d = new Date(ms);
  return isUtc()
    ? [d.getUTCFullYear(), d.getUTCMonth(), d.getUTCDate(), d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()]
    : [d.getFullYear(), d.getMonth(), d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds()];
}

export const moment = (year, month = 0, day = 1, hour = 0, minute = 0) =>
  isUtc() ? Date.UTC(year, month, day, hour, minute) : new Date(year, month, day, hour, minute).getTime();

export const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

export function date(ms) {
  const [year, month, day] = clock(ms);
  return `${year}-${two(month + 1)}-${two(day)}`;
}

export function time(ms, withSeconds = false) {
  const [, , , hour, minute, second] = clock(ms);
  return `${two(hour)}:${two(minute)}${withSeconds ? `:${two(second)}` : ""}`;
}

// Where clocks go back, an hour comes twice: then its distance from UTC says which.
export function dateTime(ms, withSeconds = false) {
  return `${date(ms)} ${time(ms, withSeconds)}${comesTwice(ms) ? ` (UTC${offset(ms)})` : ""}`;
}

function comesTwice(ms) {
  if (isUtc()) return false;
  const at = new Date(ms).getTimezoneOffset();
  return [-HOUR, HOUR].some((far) => {
    const other = new Date(ms + far).getTimezoneOffset();
    return other !== at && (other - at) * MINUTE === far;
  });
}

function offset(ms) {
  const minutes = -new Date(ms).getTimezoneOffset();
  const distance = Math.abs(minutes);
  return `${minutes < 0 ? "-" : "+"}${two(Math.floor(distance / 60))}:${two(distance % 60)}`;
}

export const zoneLabel = () => (isUtc() ? "UTC" : `${zoneName()}, UTC${offset(Date.now())}`);

export const iso = (ms) => new Date(ms).toISOString();
export const slug = (symbol) => symbol.replace("/", "-");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
