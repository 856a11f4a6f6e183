// The owner's page: studies made, raters invited, progress watched, studies closed and read.

import { getJson, post, postJson } from "./request.js";
import { el, problem } from "./result.js";

const $ = (id) => document.getElementById(id);
const JSON_TYPE = "application/json";
const links = new Map(); // study -> the links that were made here: nobody can tell them again

function say(text) {
  $("status").textContent = text;
}

function fail(error) {
  say("");
  $("problem").replaceChildren(problem(error.title ? error
    : { title: "This could not be done", detail: String(error) }));
}

async function done(work, text) {
  $("problem").replaceChildren();
  try {
    const found = await work();
    await list();
    say(text(found));
  } catch (error) {
    fail(error);
  }
}

const asked = async (path, value) => (await postJson(path, value, JSON_TYPE)).json();

/* ---- a new one ---- */

function weights(text) {
  return Object.fromEntries(text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
    const [name, weight = "1"] = part.split(":").map((one) => one.trim());
    return [name, Number(weight)];
  }));
}

$("create").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(event.target);
  const number = (name) => Number(given.get(name) || 0);
  const generated = Object.fromEntries([...$("generators").querySelectorAll("input")]
    .filter(({ value }) => Number(value)).map(({ name, value }) => [name, Number(value)]));
  const plan = {
    name: given.get("name").trim(),
    mode: given.get("mode"),
    labels: weights(given.get("labels")),
    generated,
    real: number("real"),
    repeats: number("repeats") / 100,
    seed: given.get("seed") ? number("seed") : crypto.getRandomValues(new Uint32Array(1))[0],
  };
  const text = JSON.stringify(plan);
  const set = $("set").files[0];
  const files = [new File([text], "plan.json"), ...(set ? [new File([set], "real.npz")] : [])];
  const button = event.target.querySelector("button[type=submit]");
  button.disabled = true;
  say("Making the ECGs: a second or so each on a slow machine");
  done(async () => (await post("studies/create", { files, query: {} }, JSON_TYPE)).json(),
    ({ study }) => `Study ${study} is made. Invite its raters.`)
    .finally(() => { button.disabled = false; });
});

/* ---- those there are ---- */

function rater(one) {
  const state = [one.simulated ? "simulated" : null, one.revoked ? "link ended" : null].filter(Boolean);
  return el("tr", {}, el("th", { scope: "row" }, one.name, state.length ? ` (${state.join(", ")})` : ""),
    el("td", { class: "number" }, el("progress", { value: one.answered, max: one.total,
      "aria-label": `${one.name}: ${one.answered} of ${one.total}` }), ` ${one.answered} of ${one.total}`),
    el("td", {}, one.revoked ? null : el("button", { type: "button", class: "button quiet",
      onclick: () => confirm(`End the link of ${one.name}? What they said stays.`)
        && done(() => asked("studies/revoke", { rater: one.id }), () => `The link of ${one.name} is ended.`) },
    "End link")));
}

function invitation(study) {
  return el("form", { onsubmit: (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    const name = given.get("name").trim();
    done(async () => {
      const { token } = await asked("studies/invite", { study: study.id, name,
        simulated: given.get("simulated") != null });
      links.set(study.id, [...links.get(study.id) ?? [],
        [name, `${new URL("rate", document.baseURI).href}#${token}`]]);
    }, () => `${name} is invited: the link is below the study.`);
  } },
  el("label", {}, "Rater's name ", el("input", { name: "name", type: "text", required: true, maxlength: "200" })),
  el("label", {}, el("input", { name: "simulated", type: "checkbox" }), " a program answers (simulated)"),
  el("button", { type: "submit", class: "button quiet" }, "Invite"));
}

function link([name, url]) {
  return el("div", { class: "link" },
    el("p", {}, el("strong", {}, `${name}'s personal link`), ", shown only until this page is left. "
      + "Whoever has it answers as this rater."),
    el("code", {}, url),
    el("button", { type: "button", class: "button quiet",
      onclick: async (event) => {
        await navigator.clipboard.writeText(url);
        event.target.textContent = "Copied";
      } }, "Copy"));
}

function finished(study) {
  const of = (form) => `studies/report?study=${study.id}&format=${form}`;
  return el("p", { class: "after" },
    el("a", { class: "report", href: of("html"), target: "_blank", rel: "noopener" }, "Report"),
    el("a", { href: of("json"), download: `report-${study.id}.json` }, "JSON"),
    el("a", { href: of("csv"), download: `report-${study.id}.csv` }, "CSV"),
    el("a", { href: `studies/export?study=${study.id}`, download: `study-${study.id}.zip` },
      "Export (NPZ and CSV)"));
}

function described({ labels, generated, real, sources, mode, repeats, seed }) {
  const made = Object.values(generated).map((n, i) => `${n} of ${sources[i]}`);
  const mix = Object.entries(labels).map(([name, weight]) => `${name}:${weight}`).join(", ");
  const shown = mode === "pairs" ? "in pairs" : "one at a time";
  return `${[`${real} real`, ...made].join(", ")}; ${mix}; ${shown}; `
    + `${Math.round(100 * repeats)}% repeats; seed ${seed}`;
}

function card(study) {
  const closed = study.closed != null;
  return el("section", { class: "study", id: `study-${study.id}` },
    el("h3", {}, study.name, el("span", { class: closed ? "state closed" : "state" }, closed ? "closed" : "open")),
    el("p", { class: "hint" }, described(study)),
    study.raters.length ? el("table", {}, el("tbody", {}, ...study.raters.map(rater)))
      : el("p", {}, "No rater is invited yet."),
    closed ? finished(study) : invitation(study),
    closed ? null : el("p", { class: "after" }, el("button", { type: "button", class: "button close",
      onclick: () => confirm(`Close ${study.name}? No answer is taken then, and this cannot be undone.`)
        && done(() => asked("studies/close", { study: study.id }), () => `${study.name} is closed.`) },
    "Close the study"), el("span", { class: "hint" }, "Export and report are there once it is closed.")),
    ...(links.get(study.id) ?? []).map(link));
}

async function list() {
  const found = await getJson("studies/list");
  $("studies").replaceChildren(...(found.studies.length ? found.studies.toReversed().map(card)
    : [el("p", { class: "intro" }, "There is no study yet.")]));
  return found;
}

async function start() {
  const { generators, most } = await list();
  $("most").textContent = `Up to ${most} ECGs here; python -m service.studies makes larger ones.`;
  $("generators").append(...Object.entries(generators).map(([name, { source }]) => el("label", {}, source,
    el("input", { name, type: "number", min: "0", value: "0", inputmode: "numeric" }))));
  if (!Object.keys(generators).length) $("generators").append(el("p", { class: "hint" }, "No generator is served here."));
  setInterval(() => {
    if (!document.querySelector("#studies :focus")) list().catch(() => {});
  }, 15_000);
}

start().catch(fail);
