// One record's answer as DOM. Text only ever enters as text nodes: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";
const MAX_ROWS = 300; // of the segment table; a day has 8,640 segments

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const VERDICTS = { normal: "Normal", abnormal: "Abnormal", abstained: "No answer" };
const QUALITIES = {
  acceptable: "Acceptable",
  poor: "Poor: read the answer with care",
  unusable: "Unusable: not answered",
};

/** A probability in two decimals, more where two would hide on which side of `beside` it lies. */
export function probability(p, beside = null) {
  if (p == null) return "none";
  if (beside != null && p !== beside && p.toFixed(2) === beside.toFixed(2)) return p.toFixed(4);
  if (p >= 0.995) return ">0.99";
  return p < 0.005 ? "<0.01" : p.toFixed(2);
}

/** Seconds as 12.5 s, 3:20 or 1:03:20; within a longer record never in plain seconds. */
export function clock(s, within_s = s) {
  if (within_s < 60) return `${Number(s.toFixed(2))} s`;
  const whole = Math.floor(s);
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(rest)}` : `${m}:${two(rest)}`;
}

/** "0 to 10 s", "0:50 to 1:00". */
export function span(start_s, end_s, within_s) {
  return `${clock(start_s, within_s).replace(" s", "")} to ${clock(end_s, within_s)}`;
}

/** One sentence for those who hear the page. */
export function spoken(result) {
  const { status, probability: p, threshold } = result.atrial_substrate;
  if (status === "abstained") return "No answer: the signal quality is unusable.";
  return `Atrial substrate ${status}: probability ${probability(p, threshold)}, `
    + `threshold ${probability(threshold, p)}. Signal quality ${result.quality.status}.`;
}

export function summary(result) {
  return el("div", { class: "summary" }, substrate(result.atrial_substrate), quality(result));
}

function substrate({ status, probability: p, threshold }) {
  const panel = el("section", { class: "panel" },
    el("h3", {}, "Atrial substrate"),
    el("p", { class: `verdict ${status}`, id: "verdict" }, VERDICTS[status] ?? status));
  if (p == null) {
    panel.append(el("p", {}, "The model abstains: the signal cannot be trusted. The reasons are "
      + "under signal quality."));
  } else {
    panel.append(bar(p, threshold));
  }
  panel.append(el("p", { class: "hint" }, "Abnormal stands for any of AFIB, AFLT, LAO/LAE or "
    + "RAO/RAE as PTB-XL labels them: an open proxy, not a map of low-voltage areas."));
  return panel;
}

function bar(p, threshold) {
  const above = p >= threshold;
  const [said, limit] = [probability(p, threshold), probability(threshold, p)];
  const side = above ? "at or above" : "below";
  return el("div", {},
    el("div", {
      class: above ? "scale above" : "scale", "--p": p, "--t": threshold, role: "img",
      "aria-label": `Probability ${said} on a scale from 0 to 1, ${side} the threshold ${limit}`,
    },
    el("span", { class: "mark-label number" }, `threshold ${limit}`),
    el("div", { class: "track" }, el("div", { class: "fill" }), el("div", { class: "mark" })),
    el("div", { class: "ends number" }, el("span", {}, "0"), el("span", {}, "1"))),
    el("p", {}, "Probability ", el("strong", { class: "number", id: "probability" }, said),
      `, ${side} the threshold.`));
}

function quality({ quality: { status, reasons }, ...result }) {
  return el("section", { class: "panel" },
    el("h3", {}, "Signal quality"),
    el("p", { class: `verdict small ${status}`, id: "quality" }, QUALITIES[status] ?? status),
    reasons.length
      ? el("ul", { class: "reasons" }, ...reasons.map((reason) => el("li", {},
        reason.leads.length ? el("strong", {}, `${reason.leads.join(", ")}: `) : null,
        reason.detail)))
      : el("p", { class: "hint" }, "Nothing found against it."),
    el("p", { class: "hint" }, `${result.leads.length === 1 ? "Lead" : "Leads"} `
      + `${result.leads.join(", ")}; ${clock(result.duration_s)} at ${result.fs} Hz`
      + (result.ignored_channels.length
        ? `; not read: ${result.ignored_channels.join(", ")}` : "")));
}

export function statements({ statements: all, atrial_substrate: { status } }) {
  const panel = el("section", { class: "panel", id: "statements" });
  if (status === "abstained") {
    panel.append(el("h3", {}, "Statements"),
      el("p", {}, `None of the ${all.length} statements was answered.`));
    return panel;
  }
  const sorted = [...all].sort((a, b) => b.probability - a.probability);
  const present = sorted.filter((s) => s.present);
  const rest = sorted.filter((s) => !s.present);
  panel.append(present.length
    ? statementTable(present, "Statements found")
    : el("p", {}, el("strong", {}, "No statement reaches its threshold.")));
  if (rest.length) {
    panel.append(el("details", {},
      el("summary", {}, `${rest.length} statements below their thresholds`),
      statementTable(rest, "Statements not found")));
  }
  return panel;
}

function statementTable(rows, caption) {
  return el("table", {},
    el("caption", {}, caption, el("span", { class: "hint" }, " each against its own threshold")),
    el("thead", {}, el("tr", {}, ...["Statement", "Probability", "Threshold"]
      .map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map((s) => el("tr", {},
      el("th", { scope: "row" }, el("span", { class: "code" }, s.code), ` ${s.description}`),
      el("td", { class: "number" }, miniBar(s.probability), probability(s.probability)),
      el("td", { class: s.present ? "present" : "" }, (s.present ? "reached" : "below")
        + (s.threshold == null ? "" : `, ${probability(s.threshold)}`))))));
}

function miniBar(p) {
  return el("span", { class: "mini", "aria-hidden": "true" }, el("i", { "--p": p ?? 0 }));
}

/** The segments as a strip over time and as a table; `show(start_s)` draws another stretch. */
export function segments(result, shown_s, show) {
  const { segments: all, atrial_substrate: { threshold } } = result;
  const panel = el("section", { class: "panel", id: "segments" }, el("h3", {}, "Segments"));
  if (all.length === 1) {
    const { start_s, end_s } = all[0];
    panel.append(el("p", {}, `One segment, ${span(start_s, end_s, result.duration_s)}.`));
    return panel;
  }
  const above = all.filter((s) => s.probability != null && s.probability >= threshold).length;
  const silent = all.filter((s) => s.probability == null).length;
  panel.append(
    el("p", {}, `${above} of ${all.length} segments at or above the threshold `
      + `${probability(threshold)}${silent ? `; ${silent} not answered (grey)` : ""}.`),
    strip(all, threshold, result.duration_s, shown_s, show),
    el("div", { class: "ends number" }, el("span", {}, clock(0, result.duration_s)),
      el("span", {}, clock(result.duration_s))),
    segmentTable(result, shown_s, show));
  return panel;
}

/** Bars as high as the probability; a click is a shortcut to what the table's buttons do. */
function strip(all, threshold, duration_s, shown_s, show) {
  const [width, height] = [1000, 100];
  const x = (s) => (s / duration_s) * width;
  const paths = { above: "", below: "", none: "" };
  for (const { start_s, end_s, probability: p } of all) {
    const kind = p == null ? "none" : p >= threshold ? "above" : "below";
    const top = height * (1 - (p ?? 1));
    paths[kind] += `M${x(start_s)} ${height}V${top}H${x(end_s)}V${height}Z`;
  }
  const svg = shape("svg", { class: "timeline", viewBox: `0 0 ${width} ${height}`, role: "img",
    preserveAspectRatio: "none", "aria-label": "Probability of each segment over time; the table "
    + "below has the same figures" });
  for (const [kind, d] of Object.entries(paths)) {
    svg.append(shape("path", { class: `bars-${kind}`, d }));
  }
  const y = height * (1 - threshold);
  svg.append(shape("path", { class: "threshold-line", d: `M0 ${y}H${width}` }));
  const end_s = Math.min(shown_s + 10, duration_s);
  svg.append(shape("rect", { class: "bars-shown", x: x(shown_s), y: 1, height: height - 2,
    width: x(end_s) - x(shown_s) }));
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * duration_s;
    show((all.find((s) => at < s.end_s) ?? all[all.length - 1]).start_s);
  });
  return svg;
}

export function shape(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function segmentTable(result, shown_s, show) {
  const { segments: all, atrial_substrate: { threshold } } = result;
  const when = (s) => span(s.start_s, s.end_s, result.duration_s);
  const ranked = [...all].sort((a, b) => (b.probability ?? -1) - (a.probability ?? -1));
  const kept = new Set(ranked.slice(0, MAX_ROWS));
  const rows = all.filter((s) => kept.has(s)).map((s) => el("tr", {},
    el("th", { scope: "row", class: "number" }, when(s)),
    el("td", { class: "number" }, miniBar(s.probability), probability(s.probability, threshold)),
    el("td", { class: s.probability >= threshold ? "present" : "" },
      s.probability == null ? "not answered" : s.probability >= threshold ? "reached" : "below"),
    el("td", {}, el("button", {
      type: "button", class: "button quiet", "aria-pressed": String(s.start_s === shown_s),
      "aria-label": `Show the print of ${when(s)}`, "data-start": s.start_s,
      onclick: () => show(s.start_s),
    }, "Show"))));
  const title = all.length > MAX_ROWS
    ? `The ${MAX_ROWS} segments of highest probability` : "All segments";
  return el("details", { class: "segment-list", open: all.length <= 12 },
    el("summary", {}, title),
    el("div", { class: "tall", tabindex: "0", role: "region", "aria-label": title },
      el("table", {},
        el("thead", {}, el("tr", {}, ...["Time", "Probability", "Threshold", "Print"]
          .map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, ...rows))));
}

export function modelLine({ model, request_id }) {
  return el("p", { class: "hint model" },
    `Model ${model.name} ${model.version} (sha256 ${model.sha256.slice(0, 12)}). `,
    `Request ${request_id}. `, el("strong", {}, "Research use only."));
}

export function problem({ title, detail, request_id }) {
  return el("div", { class: "problem" }, el("h3", {}, title), el("p", {}, detail),
    request_id ? el("p", { class: "hint" }, `Request ${request_id}`) : null);
}

/** What a reader needs of a card; figures without an interval are left to the card itself. */
export function modelCard(card) {
  const range = ([low, high]) => ` (${low.toFixed(3)} to ${high.toFixed(3)})`;
  const measured = (card.metrics ?? []).filter((m) => m.interval);
  return el("section", { class: "card" },
    el("h2", {}, `${card.name} ${card.version}`),
    el("dl", {},
      el("dt", {}, "For"), el("dd", {}, card.intended_use),
      el("dt", {}, "Not for"), el("dd", {}, card.not_for),
      el("dt", {}, "Limits"),
      el("dd", {}, el("ul", {}, ...(card.limitations ?? []).map((line) => el("li", {}, line)))),
      el("dt", {}, "Statements"), el("dd", {}, (card.statements ?? []).join(", "))),
    el("div", { class: "tall", tabindex: "0", role: "region", "aria-label": "Measured" },
      el("table", {},
        el("caption", {}, "Measured (95% interval)"),
        el("thead", {}, el("tr", {}, ...["Metric", "Value", "Leads", "Data", "Records"]
          .map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, ...measured.map((m) => el("tr", {},
          el("th", { scope: "row" }, m.name),
          el("td", { class: "number" }, m.value.toFixed(3) + range(m.interval)),
          el("td", {}, m.leads), el("td", {}, m.data),
          el("td", { class: "number" },
            m.n_positive == null ? String(m.n) : `${m.n}, ${m.n_positive} positive`)))))));
}
