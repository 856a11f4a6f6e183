// A view's result: what it says while it waits, what went wrong, and that the reader sees it.

import { Refusal } from "./request.js";
import { problem } from "./result.js";

/** The section `root`, which has one each of .status, .problems, .intro and .answer. */
export function resultPanel(root) {
  const part = (name) => root.querySelector(`.${name}`);

  /** Said to those who hear the page, and written where the page does not show the same already. */
  function announce(text, written = false) {
    part("status").classList.toggle("unseen", !written);
    part("status").textContent = text;
  }

  function busy(on, text = "") {
    root.setAttribute("aria-busy", String(on));
    if (on) announce(text, true);
  }

  function clear() {
    part("answer").replaceChildren();
    part("problems").replaceChildren();
  }

  function show(...nodes) {
    part("intro").hidden = true;
    part("problems").replaceChildren();
    part("answer").replaceChildren(...nodes.filter((node) => node));
  }

  function fail(error) {
    const known = error instanceof Refusal ? error
      : { title: "The answer could not be shown", detail: String(error) };
    part("intro").hidden = true;
    announce("");
    part("problems").replaceChildren(problem(known));
    bringToView();
  }

  function bringToView() {
    const { top } = root.getBoundingClientRect();
    if (top >= 0 && top < innerHeight * 0.6) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    root.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  }

  return { announce, busy, clear, show, fail, bringToView };
}
