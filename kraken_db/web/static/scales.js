// Round places on both axes.

import { DAY, HOUR, MINUTE, MONTHS, clock, moment, time } from "./format.js";

// Round prices in [low, high], at most `most`, in steps of 1, 2 or 5 times a power of ten.
export function priceTicks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  if (!(rough > 0)) return { ticks: [low], decimals: decimalsOf(Math.abs(low) / 1000 || 1) };
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((candidate) => candidate >= rough * 0.999);
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high; at += 1) ticks.push(at * step);
  return { ticks, decimals: decimalsOf(step) };
}

// On a logarithmic axis: 1, 2 and 5 times the powers of ten, or linear steps where the prices are close together.
export function logTicks(low, high, most) {
  if (!(low > 0) || high / low < 4) return priceTicks(low, high, most);
  const ticks = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const digit of [1, 2, 5]) if (digit * power >= low && digit * power <= high) ticks.push(digit * power);
  }
  const seldom = ticks.length > most ? ticks.filter((tick) => /^1/.test(tick.toExponential())) : ticks;
  return { ticks: seldom, decimals: decimalsOf(low) };
}

const decimalsOf = (step) => Math.min(10, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));

const SHORT = [1, 2, 5, 10, 15, 30].map((n) => n * MINUTE).concat([1, 2, 3, 6, 12].map((n) => n * HOUR));
const DAYS = [1, 2, 7, 14];
const MONTH_STEPS = [1, 3, 6];
const YEAR_STEPS = [1, 2, 5];
const MONTH = 30.4 * DAY;

// [{at, text, strong}] in [from, to], no closer than `least` ms, at round times of the clocks that are shown.
export function timeTicks(from, to, least) {
  const short = SHORT.find((step) => step >= least);
  if (short) return withinDays(from, to, short);
  const days = DAYS.find((step) => step * DAY >= least);
  if (days) return byDays(from, to, days);
  const months = MONTH_STEPS.find((step) => step * MONTH >= least);
  if (months) return byMonths(from, to, months);
  return byMonths(from, to, 12 * (YEAR_STEPS.find((step) => step * 12 * MONTH >= least) ?? 10));
}

function withinDays(from, to, step) {
  const ticks = [];
  let [year, month, day] = clock(from);
  for (let midnight = moment(year, month, day); midnight <= to; midnight = moment(year, month, (day += 1))) {
    for (let minutes = 0; minutes < 24 * 60; minutes += step / MINUTE) {
      const at = moment(year, month, day, 0, minutes);
      // The hour that a clock skips in spring is the next one.
      if (at < from || at > to || (ticks.length && at <= ticks.at(-1).at)) continue;
      ticks.push(minutes ? { at, text: time(at), strong: false } : dayTick(at));
    }
  }
  return ticks;
}

function dayTick(at) {
  const [year, month, day] = clock(at);
  if (day === 1 && month === 0) return { at, text: String(year), strong: true };
  return { at, text: `${day} ${MONTHS[month]}`, strong: true };
}

function byDays(from, to, step) {
  const ticks = [];
  const [year, month] = clock(from);
  for (let ahead = 0; ; ahead += 1) {
    const first = moment(year, month + ahead);
    if (first > to) return ticks;
    const next = moment(year, month + ahead + 1);
    for (let day = 1; ; day += step) {
      const at = moment(year, month + ahead, day);
      // The last step of a month is no shorter than most of one.
      if (at >= next || (step > 1 && day > 1 && next - at < (step * DAY) / 2)) break;
      if (at < from || at > to) continue;
      const [y, m, d] = clock(at);
      ticks.push({ at, text: d > 1 ? String(d) : m ? MONTHS[m] : String(y), strong: d === 1 });
    }
  }
}

function byMonths(from, to, step) {
  const ticks = [];
  const [first] = clock(from);
  const years = Math.max(1, step / 12);
  for (let month = -((first % years) * 12); ; month += step) {
    const at = moment(first, month);
    if (at > to) return ticks;
    if (at < from) continue;
    const [y, m] = clock(at);
    ticks.push({ at, text: m ? MONTHS[m] : String(y), strong: m === 0 });
  }
}
