// The page: files or an example in, one request, the answer out; and the second view's start.
// Nothing is stored or logged.

import { attribution, catalogue, load, saidBy } from "./examples.js";
import { dayPanel, drawDay, isLong } from "./holter.js";
import { resultPanel } from "./panel.js";
import { draw, printFigure, quietButton, savePrint } from "./print.js";
import { getJson, post } from "./request.js";
import { clock, el, modelCard, modelLine, probability, segments, span, spoken, statements,
  summary } from "./result.js";
import { startSynthesize } from "./synthesize.js";
import { openTab } from "./tabs.js";

const $ = (id) => document.getElementById(id);
const PRINT_S = 10; // what one print shows
const NEEDS_HINTS = /\.(csv|tsv|txt)$/i;
const MAY_NEED_HINTS = /\.(csv|tsv|txt|npz)$/i;
const panel = resultPanel($("result"));

// What is on screen: the files that were sent, what was said about them, and the answer to them.
let chosen = { files: [], label: "" };
let sent = null;
let request = new AbortController();
let printing = new AbortController();
let markShown = () => {}; // where the print lies in the strip over a long record
let shown_s = 0;
let explaining = false; // whether prints are shaded by what moved the atrial probability

/* ---- in ---- */

function take(files, label) {
  if (!files.length) return;
  begin();
  chosen = { files: [...files], label };
  markExample(null);
  showHints(false);
  if (chosen.files.some((file) => NEEDS_HINTS.test(file.name))) {
    askHints(`${label}: a CSV does not carry these.`);
  } else {
    classify(chosen, {});
  }
}

function askHints(why, withLeads = false) {
  $("hints-why").textContent = why;
  $("leads-field").hidden = !withLeads;
  showHints(true);
  panel.announce("Say the sampling frequency and the units, then choose Classify.");
  ($("fs").value && withLeads ? $("leads") : $("fs")).focus();
}

function showHints(shown) {
  $("hints").hidden = !shown;
  $("fs").required = shown;
}

function nameOf(files) {
  return files.length === 1 ? files[0].name : `${files.length} files`;
}

async function takeExample(example, button) {
  const signal = begin();
  markExample(button);
  showHints(false);
  try {
    const { files, query } = await load(example, signal);
    chosen = { files, label: example.title };
    classify(chosen, query, example);
  } catch (error) {
    if (!signal.aborted) panel.fail(error);
  }
}

function markExample(pressed) {
  for (const button of $("examples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button === pressed));
  }
}

/* ---- from one ECG to the next ---- */

/** Makes way for another ECG: nothing of the last one stays beside it. */
function begin() {
  request.abort();
  printing.abort();
  request = new AbortController();
  sent = null;
  markShown = () => {};
  panel.clear();
  return request.signal;
}

async function classify({ files, label }, hints, example = null) {
  const signal = begin();
  const query = Object.fromEntries(Object.entries(hints).filter(([, value]) => value));
  panel.busy(true, `Classifying ${label}`);
  try {
    const response = await post("classify", { files, query }, "application/json", signal);
    const answer = await response.json();
    if (signal.aborted) return;
    sent = { files, query, label, example, answer };
    showHints(false);
    showRecord(0);
    panel.bringToView();
  } catch (error) {
    if (error.name === "AbortError") return;
    panel.fail(error);
    const hinted = !example && files.some((file) => MAY_NEED_HINTS.test(file.name));
    if (hinted && error.status === 422 && /\b(fs|units|leads)\b/.test(error.detail)) {
      askHints("The file does not say, or says otherwise:", true);
    }
  } finally {
    if (!signal.aborted) panel.busy(false);
  }
}

/* ---- out ---- */

function showRecord(index) {
  const { answer } = sent;
  const result = answer.results[index];
  explaining = false;
  panel.show(
    source(index), summary(result), isLong(result) ? dayPanel(result, showAt(index)) : null,
    figureOf(result), el("div", { id: "segments-slot" }), statements(result), modelLine(answer));
  panel.announce(spoken(result));
  showPrint(index, 0);
  if (isLong(result)) showDay(index);
}

/** Shows the print of a time of the record. */
function showAt(index) {
  const { duration_s } = sent.answer.results[index];
  return (s) => showPrint(index, Math.max(0, Math.min(s, duration_s - PRINT_S)));
}

async function showDay(index) {
  const { files, query, answer } = sent;
  const { signal } = request;
  const asked = { files, query: { ...query, record: index } };
  const paper = $("day-strip");
  const mark = await drawDay(paper, asked, answer.results[index], showAt(index), signal);
  if (signal.aborted || !paper.isConnected) return;
  markShown = mark;
  markShown(shown_s);
}

function source(index) {
  const { answer: { results }, label, example } = sent;
  const heading = el("div", {}, el("h3", {}, label),
    example ? el("p", { class: "hint" }, saidBy(example)) : null);
  if (results.length === 1) return el("div", { class: "source" }, heading);
  const options = results.map(({ record_id, atrial_substrate: { status, probability: p } }, i) => {
    const name = record_id ? `${record_id}, ` : "";
    const said = p == null ? status : `${status} ${probability(p)}`;
    return el("option", { value: i, selected: i === index }, `${i + 1}: ${name}${said}`);
  });
  const picker = el("select", { id: "record", onchange: () => {
    showRecord(Number(picker.value));
    $("record").focus();
  } }, ...options);
  return el("div", { class: "source" }, heading,
    el("label", { for: "record" }, `Record (of ${results.length}) `, picker));
}

function figureOf(result) {
  const longer = result.duration_s > PRINT_S;
  const answered = result.atrial_substrate.probability != null;
  const figure = printFigure("paper", el("h3", { id: "print-heading" }, "Print"),
    answered ? quietButton("Show what moved it", { id: "explain", "aria-pressed": "false" }) : null,
    longer ? quietButton("Earlier", { id: "earlier" }) : null,
    longer ? quietButton("Later", { id: "later" }) : null,
    quietButton("Save SVG", { id: "save-svg" }),
    quietButton("Save PNG", { id: "save-png" }),
    quietButton("Print page", { onclick: () => window.print() }));
  figure.append(el("p", { id: "explained", class: "explained", role: "status", hidden: true }));
  return figure;
}

async function showPrint(index, start_s) {
  printing.abort();
  printing = new AbortController();
  const { signal } = printing;
  const { files, query, answer } = sent;
  const result = answer.results[index];
  const explained = explaining ? { explain: 1 } : {};
  const asked = { files, query: { ...query, record: index, start_s, ...explained } };
  const show = showAt(index);
  shown_s = start_s;
  markShown(start_s);
  keepFocus(() => $("segments-slot").replaceChildren(segments(result, start_s, show)));
  wire(result, start_s, show, asked);
  const drawn = await draw($("paper"), asked, signal);
  if (drawn) headPrint(result, start_s);
  if (!signal.aborted) tellWhatMoved(drawn);
}

/** In words what the print's shades show, and that they are the model's, not the heart's. */
function tellWhatMoved(drawn) {
  const words = drawn?.getAttribute("data-shaded");
  $("explained").hidden = !words;
  $("explained").replaceChildren(...(words ? [el("strong", {}, "What moved the probability. "),
    `${words} This shows what the model is sensitive to, not what causes the finding.`] : []));
  $("paper").classList.toggle("explained", Boolean(words));
}

/** The segments are drawn anew with each print: whoever was on a button there stays on it. */
function keepFocus(redraw) {
  const start = document.activeElement?.dataset?.start;
  const open = document.querySelector(".segment-list")?.open;
  const top = document.querySelector(".tall")?.scrollTop ?? 0;
  redraw();
  const list = document.querySelector(".segment-list");
  if (list && open != null) list.open = open;
  if (list) list.querySelector(".tall").scrollTop = top;
  if (start != null) {
    document.querySelector(`[data-start="${start}"]`)?.focus({ preventScroll: true });
  }
}

function headPrint({ duration_s }, start_s) {
  const end_s = Math.min(start_s + PRINT_S, duration_s);
  $("print-heading").textContent = duration_s > PRINT_S
    ? `Print, ${span(start_s, end_s, duration_s)} of ${clock(duration_s)}` : "Print";
}

/** Where the segment begins that decides the record's answer. */
function decisive({ segments: all, atrial_substrate: { probability: p } }) {
  return (all.find((s) => s.probability === p) ?? all[0]).start_s;
}

function wire(result, start_s, show, asked) {
  const end_s = Math.min(start_s + PRINT_S, result.duration_s);
  if ($("earlier")) {
    $("earlier").disabled = start_s <= 0;
    $("later").disabled = end_s >= result.duration_s;
    $("earlier").onclick = () => show(start_s - PRINT_S);
    $("later").onclick = () => show(start_s + PRINT_S);
  }
  if ($("explain")) {
    $("explain").setAttribute("aria-pressed", String(explaining));
    $("explain").onclick = () => {
      explaining = !explaining;
      show(explaining ? decisive(result) : start_s);
    };
  }
  const save = (...as) => savePrint(asked, ...as).catch(panel.fail);
  $("save-svg").onclick = () => save("image/svg+xml", "ecg-print.svg");
  $("save-png").onclick = () => save("image/png", "ecg-print.png");
}

/* ---- wiring ---- */

$("files").addEventListener("change", (event) => {
  take(event.target.files, nameOf(event.target.files));
  event.target.value = ""; // so that the same file can be chosen again
});

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!chosen.files.length) return;
  const leads = $("leads-field").hidden ? "" : $("leads").value.trim();
  classify(chosen, { fs: $("fs").value, units: $("units").value, leads });
});

let depth = 0; // dragenter and dragleave come for every element on the way
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  depth += 1;
  $("overlay").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (holdsFiles(event)) depth -= 1;
  $("overlay").hidden = depth <= 0;
});
addEventListener("dragover", (event) => {
  if (holdsFiles(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  depth = 0;
  $("overlay").hidden = true;
  openTab("#classify");
  take(event.dataTransfer.files, nameOf(event.dataTransfer.files));
});

$("sign-out").addEventListener("submit", async (event) => {
  event.preventDefault();
  await fetch("sign-out", { method: "POST" });
  location.reload();
});
$("sign-out").hidden = !("offered" in $("sign-out").dataset);

async function listExamples() {
  const source = await catalogue;
  const offered = source.examples.filter((example) => !example.comparison_only);
  $("examples").replaceChildren(...offered.map((example) => {
    const codes = example.statements.map((s) => s.code).join(", ");
    const leads = example.leads === 1 ? "1 lead" : `${example.leads} leads`;
    const button = el("button", { type: "button", "aria-pressed": "false",
      onclick: () => takeExample(example, button) },
    example.title, el("span", {}, `${example.record}, ${leads}: ${codes}`));
    return el("li", {}, button);
  }));
  $("attribution").replaceChildren("Examples: ", ...attribution(source));
}

const models = getJson("models").then((answer) => answer.models);

async function listModels() {
  $("cards").replaceChildren(...(await models).map(modelCard));
}

listExamples().catch(() => { $("attribution").textContent = "The examples could not be loaded."; });
listModels().catch(() => { $("models").hidden = true; });
startSynthesize(models, (file, label) => {
  openTab("#classify");
  $("result").focus();
  take([file], label);
});
