// A long record at a glance: AF burden in words, the rhythm strip with the episodes marked on it,
// and the episodes as a table. A click anywhere on the strip shows the print of that time.

import { post } from "./request.js";
import { clock, el, problem, shape, span } from "./result.js";

const FROM_S = 300; // shorter records are seen whole in a few prints
const MAX_ROWS = 300; // of the table
const PRINT_S = 10;
let picture = null; // the object URL that is shown

export function isLong({ duration_s }) {
  return duration_s > FROM_S;
}

/** The panel, its strip still empty. */
export function dayPanel(result, show) {
  return el("section", { class: "panel", id: "day" },
    el("h3", {}, "Over time"),
    ...burden(result),
    el("div", { class: "paper day", id: "day-strip", tabindex: "0", role: "region",
      "aria-label": "The rhythm strip over the whole record; scrolls sideways where it is narrow" },
    el("p", {}, "Drawing")),
    legend(result),
    episodeTable(result, show));
}

/** Hours and minutes as they are said: 1 h 12 min, 3 min 20 s, 40 s. */
function lasting(s) {
  const whole = Math.round(s);
  const [h, m, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h) return m ? `${h} h ${m} min` : `${h} h`;
  if (m) return rest ? `${m} min ${rest} s` : `${m} min`;
  return `${rest} s`;
}

function percent(share) {
  if (share > 0 && share < 0.01) return "less than 1%";
  if (share < 1 && share > 0.99) return "more than 99%";
  return `${Math.round(100 * share)}%`;
}

function burden({ af_burden: found, duration_s }) {
  if (!found) return [];
  if (found.share == null) {
    return [el("p", { id: "burden" }, "Nothing of this recording could be analysed for AF.")];
  }
  const n = found.episodes.length;
  const said = n
    ? `AF ${percent(found.share)} of ${lasting(found.analysed_s)} analysed, `
      + (n === 1 ? `1 episode of ${lasting(found.longest_s)}`
        : `longest ${lasting(found.longest_s)}, ${n} episodes`)
    : `No AF episode of 30 s or more in ${lasting(found.analysed_s)} analysed`;
  const aside = [];
  if (found.brief_s) {
    aside.push(`${lasting(found.brief_s)} in shorter runs, which are not counted`);
  }
  const silent = duration_s - found.analysed_s;
  if (silent >= PRINT_S) aside.push(`${lasting(silent)} not analysed`);
  return [el("p", { id: "burden" }, el("strong", {}, `${said}.`)),
    el("p", { class: "hint" }, (aside.length ? `${aside.join("; ")}. ` : "")
      + "Found by a model in segments of 10 s: an estimate, to be checked on the print.")];
}

function legend({ af_burden: found }) {
  const entry = (kind, text) => el("span", {}, el("span", { class: `key key-${kind}` }), ` ${text}`);
  return el("p", { class: "hint day-legend" },
    found ? entry("af", "AF episode") : null, entry("none", "not analysed"),
    entry("shown", "the print below"), el("span", {}, "A click shows the print of that time."));
}

function episodeTable({ af_burden: found, duration_s }, show) {
  if (!found?.episodes.length) return null;
  const longest = [...found.episodes].sort((a, b) => length(b) - length(a)).slice(0, MAX_ROWS);
  const kept = new Set(longest);
  const title = found.episodes.length > MAX_ROWS ? `The ${MAX_ROWS} longest AF episodes`
    : found.episodes.length === 1 ? "The AF episode" : `All ${found.episodes.length} AF episodes`;
  const rows = found.episodes.filter((e) => kept.has(e)).map((e) => el("tr", {},
    el("th", { scope: "row", class: "number" }, span(e.start_s, e.end_s, duration_s)),
    el("td", { class: "number" }, lasting(length(e))),
    el("td", {}, el("button", { type: "button", class: "button quiet",
      "aria-label": `Show the print where the episode at ${clock(e.start_s, duration_s)} begins`,
      onclick: () => show(e.start_s) }, "Show"))));
  return el("details", { class: "episode-list", open: found.episodes.length <= 8 },
    el("summary", {}, title),
    el("div", { class: "tall", tabindex: "0", role: "region", "aria-label": title },
      el("table", {},
        el("thead", {}, el("tr", {}, ...["Time", "Length", "Print"]
          .map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, ...rows))));
}

function length({ start_s, end_s }) {
  return end_s - start_s;
}

/** Draws the strip and marks on it; a function that marks the print's place, when it is there. */
export async function drawDay(paper, asked, result, show, signal) {
  try {
    const svg = await (await post("strip", asked, "image/svg+xml", signal)).text();
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    if (picture) URL.revokeObjectURL(picture);
    picture = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    const place = placesOf(parsed, result.duration_s);
    const marks = marksOf(result, place);
    const shown = shape("g", { class: "day-shown" });
    marks.append(shown);
    marks.addEventListener("click", (event) => {
      const at = place.at(event, marks);
      if (at != null) show(segmentAt(result, at).start_s);
    });
    paper.replaceChildren(el("div", { class: "day-sheet" },
      el("img", { src: picture, alt: parsed.querySelector("desc").textContent }), marks));
    return (start_s) => {
      const end_s = Math.min(start_s + PRINT_S, result.duration_s);
      shown.replaceChildren(...place.boxes(start_s, end_s, 3));
    };
  } catch (error) {
    if (error.name !== "AbortError") paper.replaceChildren(problem(error));
    return () => {};
  }
}

function segmentAt({ segments }, at) {
  return segments.find((s) => at < s.end_s) ?? segments[segments.length - 1];
}

/** Where on the sheet which time lies, as the drawing says itself. */
function placesOf(svg, duration_s) {
  const said = (name) => Number(svg.getAttribute(`data-${name}`));
  const [row_s, rows, left, top, columns, row, trace] =
    ["row-s", "rows", "left", "top", "columns", "row", "trace"].map(said);
  const x = (s) => left + (s / row_s) * columns;

  /** Rectangles, one a row that the stretch touches, at least `least` wide. */
  function boxes(start_s, end_s, least = 1) {
    const out = [];
    for (let i = Math.floor(start_s / row_s); i < rows && i * row_s < end_s; i += 1) {
      const [a, b] = [Math.max(start_s - i * row_s, 0), Math.min(end_s - i * row_s, row_s)];
      out.push(shape("rect", { x: x(a), y: top + i * row, height: trace,
        width: Math.max(x(b) - x(a), least) }));
    }
    return out;
  }

  /** The time under the pointer, if it is within a row. */
  function at(event, sheet) {
    const box = sheet.getBoundingClientRect();
    const [w, h] = sheet.getAttribute("viewBox").split(" ").slice(2).map(Number);
    const across = (((event.clientX - box.left) / box.width) * w - left) / columns;
    const down = Math.floor((((event.clientY - box.top) / box.height) * h - top) / row);
    if (across < 0 || across > 1 || down < 0 || down >= rows) return null;
    const s = (down + across) * row_s;
    return s < duration_s ? s : null;
  }

  return { boxes, at, viewBox: svg.getAttribute("viewBox") };
}

function marksOf(result, place) {
  const marks = shape("svg", { class: "day-marks", viewBox: place.viewBox, "aria-hidden": "true" });
  const hatching = shape("pattern", { id: "hatching", width: 5, height: 5,
    patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  hatching.append(shape("rect", { class: "hatch-ground", width: 5, height: 5 }),
    shape("path", { class: "hatch-line", d: "M0 0V5" }));
  const defs = shape("defs", {});
  defs.append(hatching);
  marks.append(defs);
  const groups = { "day-af": result.af_burden?.episodes ?? [], "day-none": silent(result) };
  for (const [kind, stretches] of Object.entries(groups)) {
    const group = shape("g", { class: kind });
    group.append(...stretches.flatMap((s) => place.boxes(s.start_s, s.end_s)));
    marks.append(group);
  }
  return marks;
}

/** Stretches without an answer, neighbours together. */
function silent({ segments }) {
  const out = [];
  for (const { start_s, end_s, probability: p } of segments) {
    if (p != null) continue;
    const last = out[out.length - 1];
    if (last && last.end_s === start_s) last.end_s = end_s;
    else out.push({ start_s, end_s });
  }
  return out;
}
