// Every key, over the page.

import { el } from "./element.js";
import { DEFECTS } from "./form.js";

const MOVES = [
  ["Enter", "save, and on to the next"],
  ["⌫", "undo the last answer (Ctrl+Z too)"],
  ["drag", "calipers: ms, beats a minute, mV"],
  ["M", "calipers on a touch screen; again, off"],
  ["+ − 0", "zoom in, out, whole print"],
  ["/", "write a comment; Esc leaves it"],
  ["?", "this list; Esc closes it"],
];
const SINGLE = [
  ["A S D", "real: certain, likely, a guess"],
  ["J K L", "generated: a guess, likely, certain"],
  ["Y N U", "the label: yes, no, unsure"],
  ["1 to 5", "plausibility: impossible to as from a patient"],
];
const PAIRS = [
  ["A S D", "the first is better: certain, likely, a guess"],
  ["G", "no difference"],
  ["J K L", "the second is better: a guess, likely, certain"],
];

function list(rows) {
  return el("dl", {}, ...rows.flatMap(([key, words]) => [
    el("dt", {}, el("kbd", {}, key)), el("dd", {}, words)]));
}

/** What the dialog holds for a mode. */
export function helpOf(mode) {
  const defects = DEFECTS.map(([, name, key]) => [key.toUpperCase(), name]);
  return [
    el("h2", { id: "help-heading" }, "Keys"),
    el("div", { class: "columns" },
      el("section", {}, el("h3", {}, "Answers"), list(mode === "pairs" ? PAIRS : SINGLE),
        el("h3", {}, "Moving and looking"), list(MOVES)),
      ...(mode === "pairs" ? [] : [el("section", {}, el("h3", {}, "Defects"), list(defects),
        el("p", { class: "hint" }, "Choose one, then click on the print where it is: once, or as "
          + "often as it is there. The same key again takes it back."))])),
    el("p", { class: "hint" }, "All ECGs, whatever their source, are prepared and drawn alike: 12 leads "
      + "at 100 Hz; III and the augmented leads follow from I and II."),
    el("form", { method: "dialog" }, el("button", { class: "button", autofocus: true }, "Close")),
  ];
}
