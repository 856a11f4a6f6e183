// A print: the picture on its paper, and how it is saved.

import { post } from "./request.js";
import { el, problem } from "./result.js";

const pictures = new Map(); // a paper's id -> the object URL that it shows

export function quietButton(text, attributes) {
  return el("button", { type: "button", class: "button quiet", ...attributes }, text);
}

/** A print's figure: a heading, buttons beside it, and paper that is still empty. */
export function printFigure(id, heading, ...buttons) {
  return el("figure", { class: "print" },
    el("figcaption", {}, heading, ...buttons),
    el("div", { class: "paper", id, tabindex: "0", role: "region",
      "aria-label": "The ECG's print; scrolls sideways where it is narrow" },
    el("p", {}, "Drawing")));
}

/** Draws what is asked of /print on the paper, or why not. The drawing's root if it is there now,
 *  else null. */
export async function draw(paper, asked, signal) {
  paper.classList.add("stale");
  let drawn = null;
  try {
    const svg = await (await post("print", asked, "image/svg+xml", signal)).text();
    const root = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    const told = root.querySelector("desc");
    URL.revokeObjectURL(pictures.get(paper.id));
    const src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    pictures.set(paper.id, src);
    paper.replaceChildren(el("img", { src, alt: told?.textContent ?? "The ECG's print" }));
    drawn = root;
  } catch (error) {
    if (error.name === "AbortError") return null;
    paper.replaceChildren(problem(error));
  }
  paper.classList.remove("stale");
  return drawn;
}

export async function savePrint(asked, type, name) {
  save(await (await post("print", asked, type)).blob(), name);
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
