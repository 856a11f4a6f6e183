// The rating page: one ECG, or two, at a time; questions; on to the next.

import { ask, newId, outbox, token } from "./asking.js";
import { el } from "./element.js";
import { DEFECTS, questions } from "./form.js";
import { helpOf } from "./help.js";
import { paper, spot } from "./print.js";

const $ = (id) => document.getElementById(id);
const ZOOMS = [1, 1.5, 2, 3];
const NAMES = new Map(DEFECTS.map(([kind, name]) => [kind, name]));

let study = null; // what the service says of it and of how far one is
let form = null;
let box = null;
let shown = null; // the presentation on the screen
let papers = [];
let since = 0;
let zoom = 0;
let measuring = false;
let turn = 0; // which of what was asked for last is to be shown, if answers come in another order
let undoing = false; // once what waits is sent
const answered = new Set(); // positions, those whose answers are on their way among them
const underWay = new Map(); // presentation -> position, of answers that are
const trail = []; // positions in the order in which they were answered here
const coming = new Map(); // position -> the promise of its presentation

/* ---- what is said ---- */

function notice(title, detail, again = null) {
  $("notice").hidden = false;
  $("notice").replaceChildren(el("h1", {}, title), el("p", {}, detail),
    again ? el("button", { type: "button", class: "button", onclick: again }, "Try again") : null);
}

function fail({ title, detail, status }) {
  if (status === 409) return close();
  notice(title, detail, status === 0 || status >= 500 ? () => location.reload() : null);
}

function close() {
  $("main").hidden = true;
  notice("This study is closed", "Its owner closed it. Thank you: what you answered is kept.");
}

function say(text) {
  $("measured").textContent = text;
}

function tell() {
  const n = answered.size;
  $("bar").max = study.total;
  $("bar").value = n;
  $("progress").textContent = `${n} of ${study.total}`;
}

function waits(n, trouble) {
  $("waiting").hidden = !n || !trouble;
  $("waiting").textContent = `${n} ${n === 1 ? "answer waits" : "answers wait"} to be sent`
    + `${trouble?.status === 0 ? ": no connection" : ""}. Leave this page open.`;
}

/* ---- one ECG after the other ---- */

const load = (position) => {
  if (!coming.has(position)) {
    const found = ask(`rate/ecg?position=${position}`);
    found.catch(() => coming.delete(position));
    coming.set(position, found);
  }
  return coming.get(position);
};

function upcoming(after = -1) {
  for (let i = after + 1; i < study.total; i += 1) if (!answered.has(i)) return i;
  return null;
}

async function next() {
  const mine = ++turn;
  const position = upcoming();
  if (position == null) return finish();
  try {
    const found = await load(position);
    if (mine === turn) show(found);
  } catch (refusal) {
    if (mine !== turn) return;
    if (refusal.status === 0 || refusal.status >= 500) {
      notice("The next ECG could not be loaded", `${refusal.title}. ${refusal.detail}`, next);
    } else fail(refusal);
  }
}

function finish() {
  shown = null;
  $("main").hidden = true;
  const n = box.waiting().length;
  if (n) {
    notice("Nearly done", `${n} of your answers are still on their way. Leave this page open.`);
    return;
  }
  notice("All done", "Every ECG has your answer. Thank you. You can still undo the last one.");
  $("notice").append(el("button", { type: "button", class: "button quiet", onclick: undo },
    "Undo last ", el("kbd", {}, "⌫")));
}

function show(presentation) {
  shown = presentation;
  coming.clear();
  const { label, prints, strips, answer } = presentation;
  $("notice").hidden = true;
  $("main").hidden = false;
  $("label").replaceChildren("Label: ", el("strong", {}, label.words));
  const names = prints.length > 1 ? ["First", "Second"] : ["The ECG"];
  papers = prints.map((print, i) => paper(print, strips, names[i], { say, clicked: (at) => form.place(at) }));
  $("papers").replaceChildren(...papers.map(({ node }, i) => (prints.length > 1
    ? el("figure", {}, el("figcaption", {}, names[i]), node) : node)));
  setZoom(0);
  setMeasuring(measuring);
  say("");
  form.show(answer && { ...answer, defects: answer.defects?.map((mark) => (
    mark.lead ? { ...mark, ...spot(mark, strips) } : mark)) });
  tell();
  $("form").inert = false;
  since = performance.now();
  document.activeElement?.blur();
  scrollTo(0, 0);
  const following = upcoming(presentation.position);
  if (following != null) load(following).catch(() => {});
}

function marked(defects) {
  papers[0]?.mark(defects.map(({ kind, x, y }) => ({ x, y, text: NAMES.get(kind) })));
}

function submit() {
  if (!shown) return;
  if (!form.complete()) {
    say(`Still to answer: ${form.missing().join(" ")}`);
    return;
  }
  const { presentation, position, revision } = shown;
  shown = null; // what is said before the next one is there is of neither
  $("form").inert = true;
  const seconds = Math.round(performance.now() - since) / 1000;
  underWay.set(presentation, position);
  answered.add(position);
  trail.push(position);
  box.send("rate/answer", { id: newId(), presentation, based_on: revision,
    answer: form.value(seconds) });
  next();
}

function kept({ value }, told) {
  underWay.delete(value.presentation);
  refresh(told);
  if (!told.stands) {
    notice("One ECG was answered twice", "You had answered it in another tab meanwhile; that "
      + "answer stands, and this one is kept beside it.");
  }
  if (box.waiting().length) return;
  if (undoing) {
    undoing = false;
    undo();
  } else if (!shown) next();
}

function refused({ value }, refusal) {
  answered.delete(underWay.get(value.presentation));
  underWay.delete(value.presentation);
  fail(refusal);
}

/** What the service knows, with what it cannot know yet. */
function refresh(told) {
  study = told;
  answered.clear();
  for (const position of [...told.answered, ...underWay.values()]) answered.add(position);
  tell();
}

async function undo() {
  const position = trail.at(-1) ?? study.last;
  if (position == null) {
    say("Nothing to undo.");
    return;
  }
  if (box.waiting().length) {
    undoing = true;
    say("The last answer is being sent; then it is undone.");
    return;
  }
  turn += 1;
  try {
    const before = await ask(`rate/ecg?position=${position}`);
    trail.pop();
    if (before.answer) {
      const told = await ask("rate/undo", { id: newId(),
        presentation: before.presentation, based_on: before.revision });
      refresh(told);
      before.revision = told.revision;
    }
    show(before);
    say("Undone: change it and save it again.");
  } catch (refusal) {
    fail(refusal);
  }
}

/* ---- looking ---- */

function setZoom(to) {
  zoom = Math.min(Math.max(to, 0), ZOOMS.length - 1);
  for (const node of document.querySelectorAll(".paper")) {
    const middle = (node.scrollLeft + node.clientWidth / 2) / node.scrollWidth;
    node.dataset.zoom = String(zoom);
    node.scrollLeft = middle * node.scrollWidth - node.clientWidth / 2;
  }
  $("smaller").disabled = zoom === 0;
  $("larger").disabled = zoom === ZOOMS.length - 1;
}

function setMeasuring(on) {
  measuring = on;
  $("measure").setAttribute("aria-pressed", String(on));
  for (const one of papers) {
    one.measuring(on);
    if (!on) one.clear();
  }
}

const help = $("help");
function showHelp() {
  help.replaceChildren(...helpOf(study.mode));
  help.showModal();
}

/* ---- keys ---- */

const KEYS = {
  enter: submit,
  backspace: undo,
  m: () => setMeasuring(!measuring),
  "+": () => setZoom(zoom + 1),
  "=": () => setZoom(zoom + 1),
  "-": () => setZoom(zoom - 1),
  0: () => setZoom(0),
  "/": () => form.comment.focus(),
  "?": showHelp,
};

addEventListener("keydown", (event) => {
  if (!form || help.open || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  const writing = event.target instanceof HTMLTextAreaElement;
  if (key === "escape") {
    if (writing) event.target.blur();
    else if (!form.disarm()) for (const one of papers) one.clear();
    return;
  }
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" && !writing) undo();
    else if (key === "enter" && writing) submit();
    else return;
    event.preventDefault();
    return;
  }
  if (writing) return;
  if (event.target instanceof HTMLButtonElement && (key === " " || key === "enter")) {
    if (key === " " || event.target.type !== "submit") return; // the button's own
  }
  const act = KEYS[key] ?? (shown ? form.choices.get(key) : null);
  if (!act || (!shown && key !== "backspace" && key !== "?")) return;
  event.preventDefault();
  act();
});

$("help-button").addEventListener("click", showHelp);
$("measure").addEventListener("click", () => setMeasuring(!measuring));
$("smaller").addEventListener("click", () => setZoom(zoom - 1));
$("larger").addEventListener("click", () => setZoom(zoom + 1));
$("whole").addEventListener("click", () => setZoom(0));
addEventListener("hashchange", () => location.reload()); // another rater's link

async function start() {
  if (!token()) {
    notice("Open your personal link", "Each rater has a link of their own, from whoever runs the "
      + "study. This address without what follows the # opens nothing.");
    return;
  }
  try {
    study = await ask("rate/progress");
  } catch (refusal) {
    fail(refusal);
    return;
  }
  $("study").textContent = study.study;
  $("who").textContent = study.rater + (study.simulated ? " (simulated)" : "");
  for (const position of study.answered) answered.add(position);
  tell();
  if (study.closed) {
    close();
    return;
  }
  $("form").classList.toggle("two", study.mode === "pairs");
  $("main").classList.toggle("two", study.mode === "pairs");
  form = questions($("form"), study.mode, { submit, undo, marked,
    armed: (kind) => $("papers").classList.toggle("marking", Boolean(kind)) });
  box = outbox({ kept, refused, changed: waits });
  next();
}

start();
