// Real ECGs of PTB-XL: the list, what is said of each, and which of them bears given labels.

import { Refusal, getJson } from "./request.js";
import { el } from "./result.js";

export const catalogue = getJson("static/examples/index.json");

/** The example as what the endpoints are asked: its file, and what the file does not say. */
export async function load({ file, fs, units }, signal) {
  try {
    const response = await fetch(`static/examples/${file}`, { signal });
    if (!response.ok) throw new TypeError("no such example");
    return { files: [new File([await response.blob()], file)], query: { fs, units } };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal({ title: "The example could not be loaded",
      detail: "Try again, or choose a file." });
  }
}

export function saidBy({ record, statements: said, atrial_substrate: status }) {
  const list = said.map(({ code, description, likelihood }) => (
    `${description} (${code}${likelihood == null ? "" : `, ${likelihood}%`})`));
  return `${record}, as PTB-XL labels it: ${list.join("; ")}. `
    + `By these labels its atrial substrate is ${status}.`;
}

/** Where the examples are from, under which licence, as nodes. */
export function attribution(source) {
  const link = (href, text) => el("a", { href, rel: "noreferrer" }, text);
  return [link(source.url, source.source), ", ", source.changes, ". ", source.attribution, " ",
    link(`https://doi.org/${source.doi}`, `doi ${source.doi}`), ". Licence: ",
    link(source.licence_url, source.licence), "."];
}

/** The 12-lead example that comes nearest to the labels, with the statements that it shares and
 *  lacks; null where none has the substrate, or where none has any of the statements. */
export function nearest(examples, { atrial_substrate: substrate, statements: asked }) {
  if (!substrate && !asked.length) return null;
  const [best] = examples
    .filter(({ leads, atrial_substrate: own }) => leads === 12 && (!substrate || own === substrate))
    .map((example) => {
      const codes = new Set(example.statements.map(({ code }) => code));
      const shared = asked.filter((code) => codes.has(code));
      const lacking = asked.filter((code) => !codes.has(code));
      return { example, shared, lacking, besides: codes.size - shared.length };
    })
    .filter(({ shared }) => shared.length || !asked.length)
    .sort((a, b) => b.shared.length - a.shared.length || a.besides - b.besides);
  return best ?? null;
}
