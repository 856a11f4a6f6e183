// The second view: labels in, synthetic ECGs out, each beside a real one of the same label.

import { attribution, catalogue, load, nearest, saidBy } from "./examples.js";
import { fillForm, readForm } from "./labels.js";
import { resultPanel } from "./panel.js";
import { draw, printFigure, quietButton, save, savePrint } from "./print.js";
import { Refusal, postJson } from "./request.js";
import { el, modelLine } from "./result.js";

const $ = (id) => document.getElementById(id);
const FILES = {
  NPZ: ["application/x-npz", "npz"],
  CSV: ["text/csv", "csv"],
  WFDB: ["application/zip", "zip"],
  JSON: ["application/json", "json"],
};
const panel = resultPanel($("synthetic"));

let card = null;
let made = null; // what is on screen: the request that repeats it, and the answer
let request = new AbortController();
let printing = new AbortController();

/** `classify(file, label)` opens the first view with that ECG. */
export async function startSynthesize(models, classify) {
  try {
    card = (await models).find((model) => model.task === "generation");
    $("no-generator").hidden = Boolean(card);
  } catch {
    $("models-unknown").hidden = false;
  }
  $("labels").hidden = $("synthetic").hidden = !card;
  if (!card) return;
  fillForm($("labels"), card);
  $("labels").addEventListener("submit", (event) => {
    event.preventDefault();
    generate(readForm($("labels")), classify);
  });
}

async function generate(asked, classify) {
  request.abort();
  printing.abort();
  request = new AbortController();
  const { signal } = request;
  made = null;
  panel.clear();
  panel.busy(true, asked.n === 1 ? "Generating an ECG" : `Generating ${asked.n} ECGs`);
  panel.bringToView();
  try {
    const answer = await (await postJson("synthesize", asked, "application/json", signal)).json();
    if (signal.aborted) return;
    made = { answer, asked, again: { ...asked, seed: answer.seed } };
    show(classify, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    panel.fail(error.status === 422
      ? new Refusal({ ...error, title: "These labels cannot be generated" }) : error);
  } finally {
    if (!signal.aborted) panel.busy(false);
  }
}

/* ---- what was made ---- */

function show(classify, signal) {
  const { answer } = made;
  const beside = el("div", { class: "beside" });
  panel.show(
    el("div", { class: "source" }, el("div", {}, el("h3", {}, title()), el("p", {}, said()),
      el("p", { class: "hint" }, `Seed ${answer.seed}, ${answer.model.name} ${answer.model.version}. `,
        el("strong", {}, "Synthetic; research use only."))),
      answer.sig.length > 1 ? stepper() : null),
    el("div", { class: "pair" }, synthetic(classify), beside),
    makings(), synthesisLine(answer));
  panel.announce(`Generated: ${title()}`);
  step(0);
  compare(beside, signal);
}

function title() {
  const { answer: { labels, sig } } = made;
  const what = sig.length > 1 ? `${sig.length} synthetic ECGs` : "Synthetic ECG";
  const label = labels.statements.join(", ")
    || (labels.atrial_substrate && `atrial substrate ${labels.atrial_substrate}`);
  return `${what}: ${label || "no label given"}`;
}

function said() {
  const { answer: { labels }, asked } = made;
  const implied = labels.atrial_substrate && !asked.atrial_substrate;
  const parts = [
    ...labels.statements.map((code) => `${card.descriptions?.[code] ?? code} (${code})`),
    labels.complete && "no other statement",
    labels.atrial_substrate
      && `atrial substrate ${labels.atrial_substrate}${implied ? ", as the statements imply" : ""}`,
    labels.age != null && `age ${labels.age}`,
    labels.sex,
    labels.heart_rate != null && `${labels.heart_rate} beats a minute`,
  ].filter(Boolean);
  return parts.length ? `Asked for: ${parts.join("; ")}.` : "Nothing in particular was asked for.";
}

function stepper() {
  const n = made.answer.sig.length;
  const options = made.answer.sig.map((_, i) => el("option", { value: i }, `${i + 1} of ${n}`));
  const by = (offset) => () => step((Number($("shown").value) + offset + n) % n);
  return el("div", { class: "stepper" },
    quietButton("Previous", { id: "previous", onclick: by(-1) }),
    el("select", { id: "shown", "aria-label": "Which ECG is shown",
      onchange: () => step(Number($("shown").value)) }, ...options),
    quietButton("Next", { id: "next", onclick: by(1) }));
}

function synthetic(classify) {
  const heading = el("h3", { id: "synthetic-heading" });
  return printFigure("synthetic-paper", heading,
    quietButton("Open in Classify", { onclick: () => classify(ecg(shown()), nameOf(shown())) }),
    ...["SVG", "PNG"].map((kind) => quietButton(`Save ${kind}`, { onclick: () => {
      const type = kind === "SVG" ? "image/svg+xml" : "image/png";
      attempt(savePrint(asPrint(shown()), type, `${stem(shown())}.${kind.toLowerCase()}`));
    } })));
}

const shown = () => Number($("shown")?.value ?? 0);

async function step(i) {
  printing.abort();
  printing = new AbortController();
  if ($("shown")) $("shown").value = i;
  const { sig } = made.answer;
  const which = sig.length > 1 ? ` ${i + 1} of ${sig.length}` : "";
  $("synthetic-heading").replaceChildren(tag("Synthetic"), `Generated${which}`);
  await draw($("synthetic-paper"), asPrint(i), printing.signal);
}

const tag = (word) => el("span", { class: `tag ${word.toLowerCase()}` }, word);

/** One of the ECGs as a record that says what it is, so that its print says so wherever it goes. */
function ecg(i) {
  const { sig, fs, leads, units, seed } = made.answer;
  const record = { sig: sig[i], fs, leads, units, record_id: `synthetic-${seed}-${i}`,
    synthetic: true };
  return new File([JSON.stringify(record)], "synthetic.json", { type: "application/json" });
}

const asPrint = (i) => ({ files: [ecg(i)], query: {} });

function nameOf(i) {
  const { sig, seed } = made.answer;
  const which = sig.length > 1 ? `, ${i + 1} of ${sig.length}` : "";
  return `${title().replace(/^\d+ synthetic ECGs/, "Synthetic ECG")}${which}, seed ${seed}`;
}

/** A file's name without its end: of all the ECGs, or of the one that is shown. */
function stem(i = null) {
  const { sig, labels, seed } = made.answer;
  const label = labels.statements.length ? labels.statements : [labels.atrial_substrate];
  const which = i != null && sig.length > 1 ? [`${i + 1}-of-${sig.length}`] : [];
  return ["synthetic", ...label, `seed-${seed}`, ...which].filter(Boolean).join("-")
    .replace(/[^\w-]+/g, "-");
}

/* ---- beside it, a real one ---- */

async function compare(beside, signal) {
  try {
    const source = await catalogue;
    const match = nearest(source.examples, made.answer.labels);
    if (!match) {
      beside.append(withoutMatch());
      return;
    }
    const { example } = match;
    const figure = printFigure("real-paper",
      el("h3", {}, tag("Real"), `${example.record}: ${example.title}`));
    beside.append(figure, el("p", {}, el("strong", {}, alike(match)), " Age, sex and heart rate "
      + "are not matched."), el("p", { class: "hint" }, saidBy(example)),
    el("p", { class: "hint" }, ...attribution(source)));
    await draw(figure.querySelector(".paper"), await load(example, signal), signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    beside.replaceChildren(el("p", {}, "The real example could not be loaded."));
  }
}

function alike({ example, shared, lacking }) {
  if (!shared.length) return `Its atrial substrate is ${example.atrial_substrate} too.`;
  const too = `Labelled ${shared.join(", ")} too`;
  return lacking.length ? `${too}, but not ${lacking.join(", ")}.` : `${too}.`;
}

function withoutMatch() {
  const { statements, atrial_substrate: substrate } = made.answer.labels;
  if (!statements.length && !substrate) {
    return el("p", { class: "hint" }, "No label was asked for, so no real ECG is shown beside it.");
  }
  const labels = [statements.join(", "), substrate && `${substrate} by its labels`];
  return el("p", { class: "hint" }, "None of the real examples here is "
    + `${labels.filter(Boolean).join(" and ")}, so none is shown beside it.`);
}

/* ---- how it was made, and to take away ---- */

function makings() {
  const { answer: { seed, sig }, asked } = made;
  const { num_steps: steps, guidance_scale: guidance } = { ...card.diffusion, ...asked };
  const facts = { ECGs: sig.length, Seed: seed, "Guidance scale": guidance, Steps: steps };
  const buttons = Object.keys(FILES).map((kind) => (
    quietButton(kind, { onclick: () => attempt(saveFile(kind)) })));
  return el("div", { class: "summary" },
    el("section", { class: "panel" }, el("h3", {}, "How it was made"),
      el("dl", { class: "facts number" }, ...Object.entries(facts).flatMap(([name, value]) => [
        el("dt", {}, name), el("dd", {}, String(value))])),
      quietButton("Use this seed again", { onclick: () => {
        $("labels").elements.seed.value = seed;
        $("labels").elements.seed.focus();
      } })),
    el("section", { class: "panel", id: "downloads" },
      el("h3", {}, sig.length > 1 ? `Download all ${sig.length} ECGs` : "Download the ECG"),
      el("div", { class: "row" }, ...buttons),
      el("p", { class: "hint" }, "The same ECGs, generated from the same seed and labels. Leads in "
        + "mV; each file's name, and where there is a place for it the file, says synthetic.")));
}

async function saveFile(kind) {
  const [type, end] = FILES[kind];
  const { answer, again } = made;
  const name = `${stem()}.${end}`;
  const held = kind === "JSON" ? new Blob([JSON.stringify(answer)], { type })
    : await (await postJson("synthesize", again, type)).blob();
  save(held, name);
}

/** Shows what went wrong with a file above the ECG, which stays. */
const attempt = (saving) => saving.catch(panel.fail);

function synthesisLine(answer) {
  const line = modelLine(answer);
  line.prepend(el("strong", {}, "Synthetic: generated by a model, no patient's recording. "));
  return line;
}
