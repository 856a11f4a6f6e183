// One print: its picture, calipers over it, and marks where something is wrong.
//
// The drawing's unit is the millimetre on paper, 25 mm to the second and 10 to the mV, so that what is
// measured in it holds at any size on the screen.

import { el, svg } from "./element.js";

const MM_PER_S = 25;
const MM_PER_MV = 10;
const ROW_MM = 40;
const DRAG_PX = 4; // less is a click
const CALIPERS = "#0b4f6c";
const MARK = "#8c1c13";

/** What is between two points, in words: time with its rate, and voltage. */
export function measured(from, to) {
  const ms = Math.abs(to.x - from.x) / MM_PER_S * 1000;
  const mv = (from.y - to.y) / MM_PER_MV;
  const bpm = ms >= 150 ? `, ${Math.round(60_000 / ms)}/min` : "";
  const signed = `${mv < 0 ? "−" : ""}${Math.abs(mv).toFixed(2)}`;
  return `${Math.round(ms)} ms${bpm}; ${signed} mV`;
}

/** Where a point lies: the lead and the record's second, or null off the traces. */
export function placeOf({ x, y }, strips) {
  const strip = strips.find((one) => y >= one.top && y < one.top + ROW_MM
    && x >= one.x && x <= one.x + (one.end_s - one.start_s) * MM_PER_S);
  if (!strip) return null;
  const s = strip.start_s + (x - strip.x) / MM_PER_S;
  return { lead: strip.lead, time_s: Math.round(s * 100) / 100, x, y };
}

/** A paper for a print's document. `say(text)`: what the calipers measure; `clicked(place)`. */
export function paper(text, strips, name, { say, clicked }) {
  const drawn = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  const picture = document.importNode(drawn, true);
  picture.removeAttribute("width");
  picture.removeAttribute("height");
  picture.setAttribute("aria-label", name);
  const over = svg("svg", { viewBox: drawn.getAttribute("viewBox"), class: "over", "aria-hidden": "true" });
  const marks = svg("g");
  const calipers = svg("g");
  over.append(marks, calipers);
  const sheet = el("div", { class: "sheet" }, picture, over);
  const node = el("div", { class: "paper", tabindex: "0", role: "region", "aria-label": name }, sheet);

  function point(event) {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(over.getScreenCTM().inverse());
    return { x: at.x, y: at.y };
  }

  let from = null;
  let pressed = null;
  let dragging = false;
  const measures = (event) => event.pointerType === "mouse" || node.dataset.measuring != null;
  over.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    from = point(event);
    pressed = { x: event.clientX, y: event.clientY };
    dragging = false;
    if (measures(event)) over.setPointerCapture(event.pointerId);
  });
  over.addEventListener("pointermove", (event) => {
    if (!from || !event.isPrimary || !measures(event)) return;
    const far = Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y);
    dragging ||= far > DRAG_PX;
    if (dragging) span(from, point(event));
  });
  over.addEventListener("pointerup", (event) => {
    if (from && event.isPrimary && !dragging) {
      const place = placeOf(from, strips);
      if (place) clicked(place);
    }
    from = null;
  });
  over.addEventListener("pointercancel", () => { from = null; });

  /** The calipers: two legs, and what is between them. */
  function span(a, b) {
    const said = measured(a, b);
    const [left, right] = [Math.min(a.x, b.x), Math.max(a.x, b.x)];
    const [top, bottom] = [Math.min(a.y, b.y), Math.max(a.y, b.y)];
    const line = (x1, y1, x2, y2) => svg("line", { x1, y1, x2, y2, stroke: CALIPERS, "stroke-width": 0.4 });
    const wide = 1.75 * said.length;
    const paperWide = over.viewBox.baseVal.width;
    const x = Math.min(Math.max(left, 1), paperWide - wide - 2);
    const y = top > 8 ? top - 2 : bottom + 5;
    const label = svg("text", { x: x + 1, y, "font-size": 3.6, fill: CALIPERS, "font-weight": 700 });
    label.textContent = said;
    calipers.replaceChildren(
      svg("rect", { x: left, y: top, width: right - left, height: bottom - top, fill: CALIPERS, "fill-opacity": 0.08 }),
      line(left, top - 2, left, bottom + 2), line(right, top - 2, right, bottom + 2),
      line(left, a.y, right, a.y), line(left, b.y, right, b.y),
      svg("rect", { x, y: y - 3.6, width: wide, height: 4.6, fill: "#fffdfc", "fill-opacity": 0.9 }), label);
    say(said);
  }

  return {
    node,
    /** [{x, y, text}], at the places where they were made. */
    mark(places) {
      marks.replaceChildren(...places.map(({ x, y, text: said }) => {
        const label = svg("text", { x: x + 3.4, y: y + 1.2, "font-size": 3.4, fill: MARK,
          stroke: "#fffdfc", "stroke-width": 0.9, "paint-order": "stroke", "font-weight": 700 });
        label.textContent = said;
        return svg("g", { class: "mark" },
          svg("circle", { cx: x, cy: y, r: 2.4, fill: MARK, "fill-opacity": 0.15, stroke: MARK, "stroke-width": 0.5 }),
          label);
      }));
    },
    measuring(on) {
      if (on) node.dataset.measuring = "";
      else delete node.dataset.measuring;
    },
    clear() {
      calipers.replaceChildren();
      say("");
    },
  };
}

/** Where a mark that was kept lies on a print. */
export function spot({ lead, time_s }, strips) {
  const strip = strips.find((one) => one.lead === lead && time_s >= one.start_s && time_s <= one.end_s);
  if (!strip) return null;
  return { x: strip.x + (time_s - strip.start_s) * MM_PER_S, y: strip.top + ROW_MM / 2 };
}
