// The form that starts a job. It sends what the command line would be given, and shows that line.

import { request } from "./api.js";
import { $, h, setText } from "./dom.js";
import { showProblem } from "./shell.js";

const PAIRS = { name: "symbols", label: "Pairs", placeholder: "BTC/USD ETH/EUR, or */EUR", isRequired: true, isList: true };
const SINCE = { name: "since", label: "From", placeholder: "2020-01-01, or 90d", option: "--since" };
const UNTIL = { name: "until", label: "To, not included", placeholder: "2024-01-01", option: "--until" };

const KINDS = {
  backfill: { text: "Every trade of these pairs, from the first one or from where the last backfill ended.", command: "backfill", fields: [PAIRS, SINCE, UNTIL] },
  "gaps-fill": { text: "Finds what no source covers, and fills it.", command: "gaps fill", fields: [PAIRS] },
  verify: { text: "Compares what is stored with what it should be. Ends with a certificate.", command: "verify", fields: [PAIRS, SINCE, UNTIL] },
  export: {
    text: "Writes files into a folder below that of --export-dir.", command: "export",
    fields: [
      PAIRS,
      { name: "folder", label: "Folder", placeholder: "research", isRequired: true, option: "--out" },
      { name: "what", label: "What", choices: ["candles", "trades"], option: "--what" },
      { name: "format", label: "Format", choices: ["parquet", "csv", "feather"], option: "--format" },
      SINCE, UNTIL,
    ],
  },
};

export class JobForm {
  // `onStart(job)`: it has begun.
  constructor(onStart) {
    this.onStart = onStart;
    const query = new URLSearchParams(location.search);
    const kind = query.get("kind");
    if (kind in KINDS) $("start").elements.kind.value = kind;
    this.values = { symbols: query.get("pairs") ?? "" };
    $("start").addEventListener("submit", (event) => this.#submit(event));
    $("start").addEventListener("change", (event) => event.target.name === "kind" && this.#show());
    $("start").addEventListener("input", (event) => {
      this.values[event.target.name] = event.target.value;
      this.#showCommand();
    });
    this.#show();
    this.#offerSymbols();
  }

  get kind() {
    return $("start").elements.kind.value;
  }

  #show() {
    const { text, fields } = KINDS[this.kind];
    setText($("kind-text"), text);
    $("fields").replaceChildren(...fields.map((field) => this.#field(field)));
    setText($("start-problem"), "");
    this.#showCommand();
  }

  #field({ name, label, placeholder, choices, isRequired }) {
    const options = { id: `field-${name}`, name, required: isRequired, placeholder, autocomplete: "off", spellcheck: "false", autocapitalize: "off" };
    const input = choices ? h("select", options, ...choices.map((value) => h("option", { value }, value))) : h("input", { ...options, list: name === "symbols" ? "known-pairs" : null });
    if (this.values[name]) input.value = this.values[name];
    return h("div", { class: "field" }, h("label", { for: `field-${name}` }, label, isRequired ? null : h("span", { class: "soft" }, choices ? "" : " optional")), input);
  }

  async #offerSymbols() {
    try {
      const { symbols } = await request("symbols");
      const list = h("datalist", { id: "known-pairs" }, ...symbols.map((value) => h("option", { value })));
      $("start").append(list);
    } catch (error) {
      showProblem(error);
    }
  }

  #arguments() {
    const given = {};
    for (const { name, isList } of KINDS[this.kind].fields) {
      const text = $(`field-${name}`).value.trim();
      if (text) given[name] = isList ? text.split(/[\s,]+/).filter(Boolean) : text;
    }
    return given;
  }

  #showCommand() {
    const { command, fields } = KINDS[this.kind];
    const given = this.#arguments();
    const words = fields.flatMap(({ name, option }) => (given[name] === undefined ? [] : option ? [option, given[name]] : given[name]));
    setText($("command"), ["kraken-db", command, ...words.map(quoted)].join(" "));
  }

  async #submit(event) {
    event.preventDefault();
    setText($("start-problem"), "");
    $("start-button").disabled = true;
    try {
      this.onStart(await request("jobs", { method: "POST", body: { kind: this.kind, arguments: this.#arguments() } }));
    } catch (error) {
      setText($("start-problem"), [error.message, error.hint].filter(Boolean).join(". "));
    } finally {
      $("start-button").disabled = false;
    }
  }
}

const quoted = (word) => (/^[\w/.:+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
