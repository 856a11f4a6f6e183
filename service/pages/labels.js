// The labels that are asked for: a form out of the generator's card, read as a request.

import { el } from "./result.js";

const NUMBERS = ["n", "age", "heart_rate", "seed", "guidance_scale", "num_steps"];

/** Fills the form with what the card covers and its defaults. */
export function fillForm(form, card) {
  const { num_steps: steps, guidance_scale: guidance, flow_map: map } = card.diffusion;
  form.elements.num_steps.placeholder = steps;
  form.elements.guidance_scale.placeholder = guidance;
  if (map) {
    form.elements.num_steps.max = map.n_levels;
    [form.elements.guidance_scale.min, form.elements.guidance_scale.max] = map.guidance;
  }
  pickStatements(form, card);
  // a field that the browser complains of must not be folded away
  form.addEventListener("invalid", (event) => {
    event.target.closest("details")?.setAttribute("open", "");
  }, true);
}

/** What the form says, in the service's own words; a field left empty is not given. */
export function readForm(form) {
  const said = new FormData(form);
  const request = { statements: said.getAll("statements") };
  for (const name of ["atrial_substrate", "sex"]) request[name] = said.get(name) || null;
  if (said.has("complete")) request.complete = true;
  for (const name of NUMBERS) if (said.get(name) !== "") request[name] = Number(said.get(name));
  return request;
}

/** A list of boxes to tick, a field that narrows it, and the ticked ones above it. */
function pickStatements(form, { statements, descriptions = {} }) {
  const [find, list] = ["find", "statement-list"].map((id) => form.querySelector(`#${id}`));
  const rows = [...statements].sort().map((code) => el("label", {},
    el("input", { type: "checkbox", name: "statements", value: code, tabindex: "-1" }),
    el("span", { class: "code" }, code), el("span", {}, descriptions[code] ?? "")));
  list.replaceChildren(...rows, el("p", { class: "hint", hidden: true }, "No such statement."));
  const boxes = rows.map((row) => row.firstChild);
  const shown = () => boxes.filter((box) => !box.parentNode.hidden);

  /** The list is one stop of the Tab key; within it the arrows go from box to box. */
  function stopAt(box) {
    for (const other of boxes) other.tabIndex = other === box ? 0 : -1;
  }

  function narrow() {
    const words = find.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    list.lastChild.hidden = shown().length > 0;
    stopAt(shown()[0]);
  }

  function showChosen() {
    const codes = boxes.filter((box) => box.checked).map((box) => box.value);
    form.querySelector("#chosen").replaceChildren(...codes.map((code) => el("li", {},
      el("button", { type: "button", "aria-label": `Remove ${code}`, title: descriptions[code],
        onclick: () => tick(code, false) }, `${code} ×`))));
    form.querySelector("#chosen").hidden = !codes.length;
    form.elements.complete.disabled = !codes.length;
  }

  function tick(code, on) {
    boxes.find((box) => box.value === code).checked = on;
    showChosen();
    find.focus();
  }

  find.addEventListener("input", narrow);
  find.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") shown()[0]?.focus();
    else if (event.key !== "Enter") return;
    event.preventDefault(); // Enter takes the first that is found; it does not send the form
    if (event.key !== "Enter" || !find.value.trim() || !shown().length) return;
    tick(shown()[0].value, true);
    find.value = "";
    narrow();
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const to = shown().indexOf(event.target) + step;
    (to < 0 ? find : shown()[to])?.focus();
  });
  list.addEventListener("focusin", (event) => stopAt(event.target));
  list.addEventListener("change", showChosen);
  narrow();
  showChosen();
}
