// The chart on its canvas. It reads a scene and paints it; it keeps nothing but colours.

import { MINUTE, date, dateTime, decimal, time } from "./format.js";
import { logTicks, priceTicks, timeTicks } from "./scales.js";

const COLOURS = "surface line ink ink-soft up down unknown bad accent accent-ink raised line-strong".split(" ");
const RIBBON = 4;
const LABEL_ROOM = 84;

export function readColours(element) {
  const probe = document.createElement("i");
  element.append(probe);
  const colours = {};
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  colours.font = `12px ${getComputedStyle(element).fontFamily}`;
  probe.remove();
  return colours;
}

// Where things are: `box` in pixels, prices [low, high] with some air.
export function layout(width, height, scene) {
  // As wide as the longest price: about 7 pixels a character.
  const axis = Math.max(width < 560 ? 54 : 72, decimal(scene.lastPrice).length * 7.3 + 18);
  const plot = { left: 0, top: 10, right: width - axis, bottom: height - 24 - RIBBON };
  plot.width = plot.right - plot.left;
  const volumeTop = plot.bottom - (plot.bottom - plot.top) * 0.17;
  const bend = scene.isLog ? Math.log : (price) => price;
  const straighten = scene.isLog ? Math.exp : (value) => value;
  const [low, high] = priceRange(scene);
  const [bottom, top] = [bend(low), bend(high)];
  const air = (top - bottom) * 0.06 || Math.abs(top) * 0.01 || 1;
  const floor = volumeTop - 12;
  const perPrice = (floor - plot.top) / (top - bottom + 2 * air);
  return {
    width, height, axis, plot, volumeTop,
    low: straighten(bottom - air), high: straighten(top + air),
    perMs: plot.width / (scene.to - scene.from),
    x: (ms) => plot.left + ((ms - scene.from) * plot.width) / (scene.to - scene.from),
    y: (price) => floor - (bend(price) - bottom + air) * perPrice,
    priceAt: (y) => straighten((floor - y) / perPrice + bottom - air),
    floor,
  };
}

function priceRange({ candles }) {
  let low = Infinity;
  let high = -Infinity;
  for (const candle of candles) {
    if (candle.low < low) low = candle.low;
    if (candle.high > high) high = candle.high;
  }
  return low <= high ? [low, high] : [1, 2];
}

export function paint(context, place, scene, colours) {
  context.clearRect(0, 0, place.width, place.height);
  context.font = colours.font;
  context.textBaseline = "middle";
  paintUnknown(context, place, scene, colours);
  paintGrid(context, place, scene, colours);
  context.save();
  context.beginPath();
  context.rect(place.plot.left, 0, place.plot.width, place.plot.bottom);
  context.clip();
  paintQuiet(context, place, scene, colours);
  paintCandles(context, place, scene, colours);
  context.restore();
  paintRibbon(context, place, scene, colours);
  paintLastPrice(context, place, scene, colours);
}

function hatch(context, x, y, width, height, colour, step) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  // The lines hang on the canvas, not on the stretch: neighbours look like one.
  for (let at = Math.floor((x - height) / step) * step; at < x + width; at += step) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.restore();
}

function paintUnknown(context, place, scene, colours) {
  const { plot } = place;
  for (const { kind, start, end } of scene.stretches) {
    if (kind === "covered") continue;
    const x = Math.max(place.x(start), plot.left);
    const width = Math.max(Math.min(place.x(end), plot.right) - x, 1.5);
    const colour = kind === "gap" ? colours.bad : colours.unknown;
    context.globalAlpha = kind === "gap" ? 0.1 : 0.07;
    context.fillStyle = colour;
    context.fillRect(x, 0, width, plot.bottom);
    context.globalAlpha = kind === "gap" ? 0.4 : 0.45;
    hatch(context, x, 0, width, plot.bottom, colour, kind === "gap" ? 8 : 14);
    context.globalAlpha = 1;
    if (width < 64) continue;
    context.fillStyle = kind === "gap" ? colours.bad : colours["ink-soft"];
    context.textAlign = "center";
    context.fillText(kind === "gap" ? "gap" : "unknown", x + width / 2, plot.top + 12);
  }
}

function paintGrid(context, place, scene, colours) {
  const { plot } = place;
  const most = Math.max(2, Math.floor((place.floor - plot.top) / 46));
  const { ticks, decimals } = (scene.isLog ? logTicks : priceTicks)(place.low, place.high, most);
  context.strokeStyle = colours.line;
  context.lineWidth = 1;
  context.fillStyle = colours["ink-soft"];
  context.textAlign = "left";
  context.beginPath();
  const tagged = scene.lastPrice === null ? NaN : place.y(Number(scene.lastPrice));
  if (scene.candles.length) {
    for (const price of ticks) {
      const y = Math.round(place.y(price)) + 0.5;
      if (y < plot.top - 4 || y > place.floor + 4) continue;
      context.moveTo(plot.left, y);
      context.lineTo(plot.right, y);
      // The tag of the newest price stands there.
      if (!(Math.abs(y - tagged) < 16)) context.fillText(decimal(price.toFixed(decimals), decimals), plot.right + 8, y);
    }
  }
  const times = timeTicks(scene.from, scene.to, LABEL_ROOM / place.perMs);
  for (const { at } of times) {
    const x = Math.round(place.x(at)) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, plot.bottom);
  }
  context.moveTo(plot.right + 0.5, 0);
  context.lineTo(plot.right + 0.5, place.height);
  context.stroke();
  context.textAlign = "center";
  for (const { at, text, strong } of times) {
    const x = place.x(at);
    if (x < 14 || x > plot.right - 14) continue;
    context.fillStyle = strong ? colours.ink : colours["ink-soft"];
    context.font = strong ? `600 ${colours.font}` : colours.font;
    context.fillText(text, x, place.height - 11);
  }
  context.font = colours.font;
}

function paintCandles(context, place, scene, colours) {
  const length = scene.minutes * MINUTE;
  const spacing = length * place.perMs;
  const body = spacing < 3 ? Math.max(1, spacing * 0.8) : Math.max(1, Math.round(spacing * 0.7) - ((Math.round(spacing * 0.7) + 1) % 2));
  let most = 0;
  for (const candle of scene.candles) most = Math.max(most, candle.volume);
  const perVolume = most ? (place.plot.bottom - place.volumeTop) / most : 0;
  for (const isUp of [true, false]) {
    context.fillStyle = isUp ? colours.up : colours.down;
    for (const candle of scene.candles) {
      if (candle.close >= candle.open !== isUp) continue;
      const middle = Math.round(place.x(candle.time) + spacing / 2);
      const high = place.y(candle.high);
      const left = Math.round(middle - body / 2);
      context.fillRect(spacing < 3 ? left : middle - 0.5, high, Math.min(1, body), Math.max(1, place.y(candle.low) - high));
      const top = place.y(Math.max(candle.open, candle.close));
      context.fillRect(left, top, body, Math.max(1, place.y(Math.min(candle.open, candle.close)) - top));
    }
    context.globalAlpha = 0.38;
    for (const candle of scene.candles) {
      if (candle.close >= candle.open !== isUp) continue;
      const height = candle.volume * perVolume;
      const left = Math.round(Math.round(place.x(candle.time) + spacing / 2) - body / 2);
      context.fillRect(left, place.plot.bottom - height, body, height);
    }
    context.globalAlpha = 1;
  }
}

// Covered time without a candle: nothing was traded, and the last price holds.
function paintQuiet(context, place, scene, colours) {
  const length = scene.minutes * MINUTE;
  const spacing = length * place.perMs;
  context.fillStyle = colours["ink-soft"];
  const covered = scene.stretches.filter(({ kind }) => kind === "covered");
  let last = scene.before;
  let at = 0;
  const mark = (start, end) => {
    while (at < covered.length && covered[at].end <= start) at += 1;
    for (let i = at; i < covered.length && covered[i].start < end; i += 1) {
      const first = Math.max(start, start + Math.ceil((covered[i].start - start) / length) * length);
      const until = Math.min(end, covered[i].end);
      if (spacing < 4) context.fillRect(place.x(first), place.y(last.close), Math.max(0, (until - first) * place.perMs), 1);
      else for (let slot = first; slot + length <= until; slot += length) context.fillRect(place.x(slot) + spacing / 2 - 1, place.y(last.close) - 1, 2, 2);
    }
  };
  for (const candle of scene.candles) {
    const start = Math.max(last ? last.time + length : Infinity, scene.opens);
    if (last && candle.time > start) mark(start, candle.time);
    last = candle;
  }
  if (last && last.time + length < scene.to) mark(Math.max(last.time + length, scene.opens), scene.to);
}

function paintRibbon(context, place, scene, colours) {
  const y = place.plot.bottom + 1;
  for (const { kind, start, end } of scene.stretches) {
    const x = Math.max(place.x(start), place.plot.left);
    const width = Math.max(Math.min(place.x(end), place.plot.right) - x, kind === "covered" ? 0 : 2);
    context.fillStyle = kind === "gap" ? colours.bad : kind === "covered" ? colours.accent : colours.unknown;
    context.globalAlpha = kind === "covered" ? 0.55 : 1;
    context.fillRect(x, y, width, RIBBON);
  }
  context.globalAlpha = 1;
}

function tag(context, x, y, text, fill, ink, centred = false, room = Infinity) {
  const width = context.measureText(text).width + 12;
  const left = centred ? Math.max(0, Math.min(x - width / 2, room - width)) : x;
  context.fillStyle = fill;
  context.beginPath();
  context.roundRect(left, y - 10, width, 20, 3);
  context.fill();
  context.fillStyle = ink;
  context.textAlign = "left";
  context.fillText(text, left + 6, y + 0.5);
}

function paintLastPrice(context, place, scene, colours) {
  const { lastPrice } = scene;
  if (lastPrice === null) return;
  const y = Math.round(place.y(Number(lastPrice))) + 0.5;
  if (!(y > place.plot.top && y < place.floor)) return;
  context.strokeStyle = colours.accent;
  context.setLineDash([2, 3]);
  context.beginPath();
  context.moveTo(place.plot.left, y);
  context.lineTo(place.plot.right, y);
  context.stroke();
  context.setLineDash([]);
  tag(context, place.plot.right + 2, y, decimal(lastPrice), colours.accent, colours["accent-ink"]);
}

// `cursor`: {ms: when its candle opens, y: of the pointer or null, isKept}.
export function paintCursor(context, place, scene, colours, cursor) {
  context.clearRect(0, 0, place.width, place.height);
  if (!cursor) return;
  const { plot } = place;
  const length = scene.minutes * MINUTE;
  context.font = colours.font;
  context.textBaseline = "middle";
  const x = place.x(cursor.ms);
  context.globalAlpha = cursor.isKept ? 0.16 : 0.08;
  context.fillStyle = colours.accent;
  const band = Math.max(length * place.perMs, 1);
  const left = Math.max(x, 0);
  context.fillRect(left, 0, Math.min(x + band, plot.right) - left, plot.bottom);
  context.globalAlpha = 1;
  context.strokeStyle = colours["line-strong"];
  context.setLineDash([3, 3]);
  context.beginPath();
  const middle = Math.round(x + band / 2) + 0.5;
  if (middle < plot.right) {
    context.moveTo(middle, 0);
    context.lineTo(middle, plot.bottom);
  }
  if (cursor.y !== null && cursor.y < place.floor && cursor.y > plot.top) {
    context.moveTo(plot.left, Math.round(cursor.y) + 0.5);
    context.lineTo(plot.right, Math.round(cursor.y) + 0.5);
  }
  context.stroke();
  context.setLineDash([]);
  if (cursor.y !== null && cursor.y < place.floor && cursor.y > plot.top && scene.candles.length) {
    const { decimals } = priceTicks(place.low, place.high, 50);
    tag(context, plot.right + 2, cursor.y, decimal(place.priceAt(cursor.y).toFixed(decimals), decimals), colours.ink, colours.surface);
  }
  const text = scene.minutes >= 1440 ? date(cursor.ms) : dateTime(cursor.ms);
  tag(context, middle, place.height - 12, text, colours.ink, colours.surface, true, plot.right);
}

// What a screen reader hears of a candle.
export function spoken(candle, kind, ms, minutes) {
  const when = minutes >= 1440 ? date(ms) : `${date(ms)} ${time(ms)}`;
  if (candle) {
    const way = candle.close >= candle.open ? "up" : "down";
    return `${when}, ${way}, open ${decimal(candle.open)}, high ${decimal(candle.high)}, low ${decimal(candle.low)}, close ${decimal(candle.close)}, volume ${decimal(candle.volume)}, ${candle.trades} trades`;
  }
  return `${when}, ${{ covered: "quiet: nothing was traded", gap: "a gap: missing, can be filled", unknown: "unknown: no source covers it" }[kind] ?? "nothing is stored"}`;
}
