// The head of a pair's pages: its newest price, and in words how well it is known.

import { request } from "./api.js";
import { $, h, setText } from "./dom.js";
import { count, date, decimal, period, plural, share, slug } from "./format.js";

export async function readPair(symbol) {
  const { pairs } = await request("overview", { query: { symbol } });
  return pairs.find((pair) => pair.symbol === symbol) ?? null;
}

export function showPair(pair, symbol) {
  if (!pair) {
    $("facts").replaceChildren(
      h("span", { class: "badge bad" }, "not stored"), ` Nothing of ${symbol} is stored yet. `,
      h("a", { href: `/jobs?kind=backfill&pairs=${encodeURIComponent(symbol)}` }, "Backfill it"),
    );
    return;
  }
  showPrice(pair.price);
  const { start, share: covered } = pair.coverage;
  const facts = [
    // Gaps have a link of their own.
    ...pair.trouble.filter((text) => !pair.gaps || !/\bgaps?$/.test(text)).map((text) => h("span", { class: "badge bad" }, text)),
    fact(ageText(pair)),
    fact(`${share(covered)} covered`),
    start && fact(`since ${date(Date.parse(start))}`),
    pair.gaps ? h("a", { class: "badge bad", href: `/coverage/${slug(symbol)}` }, plural(pair.gaps, "gap")) : fact("no gaps"),
    fact(`${count(pair.trades)} trades`),
  ];
  $("facts").replaceChildren(...facts.filter(Boolean));
}

const fact = (text) => h("span", { class: "fact" }, text);

function ageText(pair) {
  if (pair.ended_at) return `ended ${date(Date.parse(pair.ended_at))}`;
  if (pair.status === "live") return "recorded live";
  return pair.lag_seconds === null ? "nothing is known" : `known until ${period(pair.lag_seconds)} ago`;
}

export function showPrice(price) {
  setText($("price"), decimal(price));
}
