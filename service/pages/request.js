// Files to the service, and its refusals as errors.

const WFDB_HEADER = /\.hea$/i;

/** A problem document as an error: title, detail, status, request_id. */
export class Refusal extends Error {
  constructor(fields) {
    super(fields.title);
    Object.assign(this, fields);
  }
}

/** Names leave the page only where a WFDB header refers to its signal files by them. */
function bodyOf(files) {
  const body = new FormData();
  const keepNames = files.some((file) => WFDB_HEADER.test(file.name));
  files.forEach((file, i) => {
    const extension = file.name.match(/\.[a-z0-9]{1,5}$/i)?.[0] ?? "";
    body.append("file", file, keepNames ? file.name : `record-${i + 1}${extension}`);
  });
  return body;
}

/** The answer of `path` to the files, or a Refusal; an abort stays the AbortError that it is. */
export function post(path, { files, query }, accept, signal) {
  const parameters = new URLSearchParams(query).toString();
  return ask(parameters ? `${path}?${parameters}` : path,
    { method: "POST", body: bodyOf(files), signal, headers: { Accept: accept } });
}

/** The same for a request that is JSON. */
export function postJson(path, value, accept, signal) {
  return ask(path, { method: "POST", body: JSON.stringify(value), signal,
    headers: { Accept: accept, "Content-Type": "application/json" } });
}

/** What a file of the page's, or an endpoint without a body, holds as JSON. */
export async function getJson(path) {
  return (await ask(path, {})).json();
}

async function ask(path, init) {
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal({ title: "The service could not be reached",
      detail: "Check the connection and try again." });
  }
  if (response.ok) return response;
  const { status, statusText } = response;
  const told = await response.json().catch(() => ({})); // a proxy's error is no problem document
  const title = `The service answered ${status}`;
  throw new Refusal({ title, detail: statusText, ...told, status });
}
