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
export async function post(path, { files, query }, accept, signal) {
  const url = `${path}?${new URLSearchParams(query)}`;
  let response;
  try {
    response = await fetch(url, { method: "POST", body: bodyOf(files), signal, headers: { Accept: accept } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal({ title: "The service could not be reached", detail: "Check the connection and try again." });
  }
  if (response.ok) return response;
  const fallback = { title: `The service answered ${response.status}`, detail: response.statusText };
  throw new Refusal({ ...fallback, ...await response.json().catch(() => ({})), status: response.status });
}
