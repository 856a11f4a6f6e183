// The questions, one key an answer, and what has been answered of them.

import { el } from "./element.js";

const SURE = [[3, "certain"], [2, "likely"], [1, "guess"]];

export const DEFECTS = [
  ["p_wave", "P wave", "p"], ["pr", "PR interval", "i"], ["qrs", "QRS", "q"], ["st_t", "ST/T", "t"],
  ["rr", "RR regularity", "r"], ["coherence", "Lead coherence", "c"], ["noise", "Noise", "o"],
  ["artefact", "Artefact", "x"],
];

function scale(question, left, right, middle) {
  const [leftName, leftValue] = left;
  const [rightName, rightValue] = right;
  const side = (name, value, keys) => SURE.map(([confidence, words], i) => ({
    key: keys[i], name, words, set: { [question]: value, confidence } }));
  return [
    ...side(leftName, leftValue, ["a", "s", "d"]),
    ...(middle ? [middle] : []),
    ...side(rightName, rightValue, ["l", "k", "j"]).reverse(),
  ];
}

const SINGLE = [
  { id: "source", legend: "Real or generated?", needs: ["source", "confidence"],
    options: scale("source", ["Real", "real"], ["Generated", "generated"]) },
  { id: "label", legend: "Does it show the label?", needs: ["label"], options: [
    { key: "y", name: "Yes", set: { label: "yes" } },
    { key: "n", name: "No", set: { label: "no" } },
    { key: "u", name: "Unsure", set: { label: "unsure" } }] },
  { id: "plausibility", legend: "How plausible is it?", needs: ["plausibility"],
    ends: ["impossible", "as from a patient"],
    options: [1, 2, 3, 4, 5].map((n) => ({ key: String(n), name: String(n), set: { plausibility: n } })) },
];
const PAIRS = [
  { id: "better", legend: "Which is the better ECG of this label?", needs: ["better", "confidence"],
    options: scale("better", ["First", "first"], ["Second", "second"],
      { key: "g", name: "No difference", set: { better: "neither", confidence: 1 } }) },
];

/** The form of a mode in `root`. `submit()`, `undo()`; `armed(kind)` once a defect is chosen that the
 *  next click on the print places, null once none is. */
export function questions(root, mode, { submit, undo, armed, marked }) {
  const asked = mode === "pairs" ? PAIRS : SINGLE;
  let answer = {};
  let defects = [];
  let arm = null;
  const choices = new Map(); // a key -> what it chooses
  const buttons = [];

  function button({ key, name, words, set }) {
    const node = el("button", { type: "button", class: "choice", "aria-pressed": "false",
      "aria-keyshortcuts": key, onclick: () => choose(set) },
    el("span", {}, name, words ? el("small", {}, words) : null), el("kbd", {}, key.toUpperCase()));
    buttons.push([node, set]);
    choices.set(key, () => choose(set));
    return node;
  }

  const groups = asked.map(({ id, legend, options, ends }) => el("fieldset", { class: `ask ${id}` },
    el("legend", {}, legend),
    el("div", { class: "choices" }, ...options.map(button)),
    ends ? el("p", { class: "ends", "aria-hidden": "true" }, ...ends.map((end) => el("span", {}, end))) : null));

  const kinds = DEFECTS.map(([kind, name, key]) => {
    choices.set(key, () => toggle(kind));
    return el("button", { type: "button", class: "choice defect", "aria-pressed": "false",
      "data-kind": kind, "aria-keyshortcuts": key, onclick: () => toggle(kind) },
    el("span", {}, name, el("small", {})), el("kbd", {}, key.toUpperCase()));
  });
  const hint = el("p", { class: "hint", role: "status" });
  const marking = el("fieldset", { class: "ask defects" }, el("legend", {}, "Defects, if any"),
    el("div", { class: "choices" }, ...kinds), hint);

  const comment = el("textarea", { id: "comment", rows: "1", maxlength: "2000", autocomplete: "off",
    "aria-keyshortcuts": "/" });
  const save = el("button", { type: "submit", class: "button", "aria-keyshortcuts": "Enter" },
    "Save and next ", el("kbd", {}, "Enter"));
  const back = el("button", { type: "button", class: "button quiet", onclick: undo,
    "aria-keyshortcuts": "Backspace" }, "Undo last ", el("kbd", {}, "⌫"));
  root.replaceChildren(...groups, ...(mode === "pairs" ? [] : [marking]),
    el("label", { class: "comment", for: "comment" }, "Comment ", el("kbd", {}, "/"), comment),
    el("div", { class: "ending" }, save, back));
  root.onsubmit = (event) => {
    event.preventDefault();
    submit();
  };

  function choose(set) {
    answer = { ...answer, ...set };
    draw();
  }

  /** Off, on without a place, or with one after a click. */
  function toggle(kind) {
    if (defects.some((one) => one.kind === kind)) {
      defects = defects.filter((one) => one.kind !== kind);
      if (arm === kind) arm = null;
    } else {
      defects = [...defects, { kind, lead: null, time_s: null }];
      arm = kind;
    }
    draw();
  }

  function place({ lead, time_s, x, y }) {
    if (!arm) return;
    const placed = { kind: arm, lead, time_s, x, y };
    defects = [...defects.filter((one) => one.kind !== arm || one.lead), placed];
    draw();
  }

  function draw() {
    for (const [node, set] of buttons) {
      const chosen = Object.entries(set).every(([name, value]) => answer[name] === value);
      node.setAttribute("aria-pressed", String(chosen));
    }
    for (const node of kinds) {
      const mine = defects.filter((one) => one.kind === node.dataset.kind);
      const placed = mine.filter((one) => one.lead).length;
      node.setAttribute("aria-pressed", String(mine.length > 0));
      node.classList.toggle("armed", arm === node.dataset.kind);
      node.querySelector("small").textContent = placed ? `${placed} marked` : mine.length ? "no place" : "";
    }
    const [, name] = DEFECTS.find(([kind]) => kind === arm) ?? [];
    hint.textContent = name ? `${name}: click on the print where it is, as often as it is there.` : "";
    groups.forEach((group, i) => group.classList.toggle("done", done(asked[i])));
    save.classList.toggle("ready", complete());
    armed(arm);
    marked(defects.filter((one) => one.lead));
  }

  const done = ({ needs }) => needs.every((name) => answer[name] != null);
  const complete = () => asked.every(done);

  return {
    choices,
    complete,
    place,
    comment,
    /** Off the marking, if it was on. */
    disarm() {
      const was = arm;
      arm = null;
      draw();
      return Boolean(was);
    },
    /** What is still to answer, in words. */
    missing: () => asked.filter((one) => !done(one)).map(({ legend }) => legend),
    show(former) {
      const { defects: marks = [], comment: text = "", seconds, ...rest } = former ?? {};
      answer = rest;
      defects = marks.map((one) => ({ ...one }));
      arm = null;
      comment.value = text;
      draw();
    },
    value(seconds) {
      const given = { ...answer, comment: comment.value.trim(), seconds };
      if (mode === "pairs") return given;
      return { ...given, defects: defects.map(({ kind, lead, time_s }) => ({ kind, lead, time_s })) };
    },
  };
}
