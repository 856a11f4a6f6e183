// What is asked of the service, and answers on their way to it.
//
// An answer counts as given once the service says that it is kept. Until then it waits here, is shown
// as waiting, and is sent again: with the same id, so that it is kept once however often it arrives.

const KEPT = "unsent"; // in this tab's storage, so that a reload loses nothing that waits
const PAUSE_MS = [1000, 2000, 5000, 10_000];
const GONE = [401, 403, 404];

/** A refusal: status, title, detail. */
export class Refusal extends Error {
  constructor(fields) {
    super(fields.title);
    Object.assign(this, fields);
  }
}

/** The token in the link's fragment, which the browser tells nobody. */
export function token() {
  return location.hash.slice(1);
}

/** A new answer's id. A page that came without TLS has random bytes but no UUIDs. */
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export async function ask(path, value) {
  const headers = { Authorization: `Bearer ${token()}`, Accept: "application/json" };
  const init = value === undefined ? { headers }
    : { method: "POST", headers: { ...headers, "Content-Type": "application/json" },
      body: JSON.stringify(value) };
  let response;
  try {
    response = await fetch(path, { ...init, cache: "no-store", credentials: "omit" });
  } catch {
    throw new Refusal({ status: 0, title: "The service could not be reached",
      detail: "Check the connection." });
  }
  const told = await response.json().catch(() => ({}));
  if (response.ok) return told;
  throw new Refusal({ title: `The service answered ${response.status}`, detail: "", ...told,
    status: response.status });
}

/** Whether the same may well be answered later: nobody there, too busy, or failing for now. */
function passes({ status }) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

/** Sends one after the other. `kept(sent, told)` once one is kept; `refused(sent, refusal)` where it
 *  never will be; `changed(n, trouble)` with how many wait, and why they do if not for their turn. */
export function outbox({ kept, refused, changed }) {
  const line = recalled();
  let sending = false;
  let failures = 0;
  let timer = 0;

  function remember() {
    if (line.length) sessionStorage.setItem(KEPT, JSON.stringify({ of: token(), line }));
    else sessionStorage.removeItem(KEPT);
  }

  async function run() {
    if (sending || !line.length) return;
    sending = true;
    clearTimeout(timer);
    while (line.length) {
      const sent = line[0];
      try {
        const told = await ask(sent.path, sent.value);
        failures = 0;
        line.shift();
        remember();
        changed(line.length, null);
        kept(sent, told);
      } catch (refusal) {
        if (passes(refusal)) {
          changed(line.length, refusal);
          timer = setTimeout(run, PAUSE_MS[Math.min(failures, PAUSE_MS.length - 1)]);
          failures += 1;
          break;
        }
        if (!GONE.includes(refusal.status)) line.shift(); // else a good link may still send it
        remember();
        changed(line.length, null);
        refused(sent, refusal);
        if (GONE.includes(refusal.status)) break;
      }
    }
    sending = false;
  }

  function send(path, value) {
    line.push({ path, value });
    remember();
    changed(line.length, null);
    run();
  }

  addEventListener("online", run);
  addEventListener("beforeunload", (event) => {
    if (line.length) event.preventDefault();
  });
  if (line.length) {
    changed(line.length, null);
    run();
  }
  return { send, waiting: () => line.map(({ value }) => value) };
}

function recalled() {
  try {
    const { of, line } = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
    return of === token() ? line : [];
  } catch {
    return [];
  }
}
