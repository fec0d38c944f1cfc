// What runs, what is over, and a form that starts a job.

import { request } from "./api.js";
import { $, h, say } from "./dom.js";
import { Events } from "./events.js";
import { JobCard, kindName } from "./job_card.js";
import { JobForm } from "./job_form.js";
import { onZone } from "./settings.js";
import { hideProblem, showLive, showProblem } from "./shell.js";

const EVERY = 2000;
const cards = new Map();
const jobs = new Map();

function show() {
  const all = [...jobs.values()].sort((a, b) => (a.started < b.started ? 1 : -1));
  place($("running"), all.filter((job) => job.state === "running"), "Nothing is running.");
  place($("over"), all.filter((job) => job.state !== "running"), "No job has ended since the server started.");
  $("running").setAttribute("aria-busy", "false");
}

function place(element, wanted, nothing) {
  const elements = wanted.map((job) => {
    if (!cards.has(job.id)) cards.set(job.id, new JobCard());
    cards.get(job.id).show(job);
    return cards.get(job.id).element;
  });
  const now = elements.length ? elements : [h("p", { class: "soft" }, nothing)];
  // A card that stays is left where it is: an open log, the focus and a selection stay, too.
  if (now.length !== element.children.length || now.some((one, at) => element.children[at] !== one && (elements.length || element.children[at].textContent !== nothing))) element.replaceChildren(...now);
}

function take(job) {
  const before = jobs.get(job.id);
  jobs.set(job.id, job);
  if (before?.state === "running" && job.state !== "running") say(`${kindName(job.kind)}: ${job.state}`);
}

async function load() {
  try {
    const answer = await request("jobs");
    const known = new Set(answer.map((job) => job.id));
    for (const id of jobs.keys()) if (!known.has(id)) jobs.delete(id);
    answer.forEach(take);
    hideProblem();
    show();
  } catch (error) {
    showProblem(error);
  }
}

new JobForm((job) => {
  take(job);
  show();
  say(`${kindName(job.kind)} started`);
  cards.get(job.id).element.scrollIntoView({ block: "nearest" });
});
onZone(show);
load();
setInterval(() => document.hidden || load(), EVERY);
showLive(new Events().on("job", (job) => (take(job), show())).on("reset", load));
