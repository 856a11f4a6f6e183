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
  const parameters = new URLSearchParams(query).toString();
  let response;
  try {
    response = await fetch(parameters ? `${path}?${parameters}` : path,
      { method: "POST", body: bodyOf(files), signal, headers: { Accept: accept } });
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
