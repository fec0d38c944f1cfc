// What a verification has found, pair by pair, as a page that can be read, kept and printed.

import { request } from "./api.js";
import { $, h } from "./dom.js";
import { count, dateTime, plural } from "./format.js";
import { onZone } from "./settings.js";
import { showProblem } from "./shell.js";

const MOST_FINDINGS = 20;
let certificate = null;

const at = (text) => dateTime(Date.parse(text));
const isEmpty = (found) => found.parts.every((part) => part.not_checked);
const kindsOf = (found) => found.parts.flatMap((part) => Object.entries(part.problems));

function verdictOf(found) {
  if (found.clean) return ["good", "Nothing is wrong"];
  const kinds = kindsOf(found);
  if (kinds.length) return ["bad", `Wrong: ${kinds.map(([kind, number]) => `${kind} (${count(number)})`).join(", ")}`];
  return ["warn", found.error ? `Not verified: ${found.error.reason}` : isEmpty(found) ? "Not verified: nothing could be compared" : "Not verified"];
}

function partText(part) {
  const texts = [];
  if (part.compared || !part.not_checked) texts.push(`${plural(part.compared, part.unit.replace(/s$/, ""))} compared`);
  if (part.first_id !== undefined && part.first_id !== null) {
    texts.push(`ids ${part.first_id} to ${part.last_id}${part.missing_ids ? `, ${count(part.missing_ids)} missing` : " without a hole"}`);
  }
  if (part.dropped_ids) texts.push(`${count(part.dropped_ids)} dropped by retention`);
  if (part.without_ids) texts.push(`${count(part.without_ids)} without an id`);
  if (part.unproven) texts.push(`${count(part.unproven)} stored without their trades`);
  if (part.oldest && part.newest) texts.push(`${at(part.oldest)} to ${at(part.newest)}`);
  if (part.not_checked) texts.push(`not compared: ${part.not_checked}`);
  return texts.join(" · ");
}

function partRow(part) {
  const number = Object.values(part.problems).reduce((sum, one) => sum + one, 0);
  const [state, word] = number ? ["bad", "wrong"] : part.not_checked && !part.compared ? ["", "not compared"] : ["good", "right"];
  const findings = part.findings.slice(0, MOST_FINDINGS).map((finding) => h("li", {}, finding.text));
  return h("li", { class: "part" },
    h("p", {}, h("strong", {}, part.name), " ", h("span", { class: `badge ${state}` }, word)),
    h("p", { class: "soft" }, partText(part)),
    part.notes.length ? h("ul", { class: "notes" }, ...part.notes.map((note) => h("li", {}, note))) : null,
    findings.length ? h("ul", { class: "findings" }, ...findings) : null,
    part.findings.length > MOST_FINDINGS ? h("p", { class: "soft" }, `${count(number)} in all`) : null);
}

function symbolCard(found) {
  const [state, verdict] = verdictOf(found);
  const range = found.since || found.until ? `Asked for: ${found.since ? at(found.since) : "the first"} to ${found.until ? at(found.until) : "now"}` : null;
  return h("article", { class: "card certificate", "data-state": state },
    h("h2", {}, found.symbol), h("p", { class: `verdict-line ${state}-text` }, verdict),
    range ? h("p", { class: "soft" }, range) : null,
    found.repaired.length ? h("ul", { class: "notes" }, ...found.repaired.map((text) => h("li", {}, text))) : null,
    found.error?.hint ? h("p", { class: "soft" }, found.error.hint) : null,
    h("ul", { class: "parts" }, ...found.parts.map(partRow)));
}

function show() {
  if (!certificate) return;
  const all = [...certificate.symbols].sort((a, b) => Number(a.clean) - Number(b.clean) || (a.symbol < b.symbol ? -1 : 1));
  const clean = all.filter((found) => found.clean).length;
  const wrong = all.filter((found) => kindsOf(found).length).length;
  const title = clean === all.length ? `Nothing is wrong with ${all.length === 1 ? all[0].symbol : plural(all.length, "pair")}`
    : wrong ? `${count(wrong)} of ${plural(all.length, "pair")} ${wrong === 1 ? "has" : "have"} something wrong` : `${count(all.length - clean)} of ${plural(all.length, "pair")} could not be verified`;
  $("certificate").setAttribute("aria-busy", "false");
  $("certificate").replaceChildren(
    h("h1", { "data-state": wrong ? "bad" : clean === all.length ? "good" : "warn" }, title),
    h("p", { class: "soft" }, "What could not be compared is named, and nothing is claimed about it."),
    h("button", { type: "button", class: "button no-print", onclick: () => print() }, "Print"),
    ...all.map(symbolCard));
}

async function load() {
  try {
    certificate = await request(`certificates/${encodeURIComponent(document.body.dataset.job)}`);
    show();
  } catch (error) {
    $("certificate").replaceChildren(h("h1", {}, "Certificate"));
    showProblem(error);
  }
}

onZone(show);
load();
