// Decisions: made here with an id, kept in the browser until the server has them, and sent in order. Sending one twice writes it once.

const OUTBOX = "anomaly.outbox";
const HISTORY = "anomaly.decided";
const BATCH = 100;
const HISTORY_MAX = 1000;
const RETRY_MS = [500, 1000, 2000, 5000, 10000];

const root = document.body.dataset.root;
const read = (store, key) => JSON.parse(store.getItem(key) ?? "[]");
const write = (store, key, value) => store.setItem(key, JSON.stringify(value));
const listeners = new Set();

/** An id as crypto.randomUUID makes it, which is there only in a secure context. */
const newId = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
};

export const unsaved = () => read(localStorage, OUTBOX).length;
export const onChange = (listener) => listeners.add(listener);
const notify = (event) => listeners.forEach((listener) => listener(event));

let sending = false;
let failures = 0;

/** Send what is in the outbox, oldest first, until it is empty. */
export const send = async () => {
  if (sending) return;
  sending = true;
  try {
    let size = BATCH;
    for (let waiting = read(localStorage, OUTBOX); waiting.length; waiting = read(localStorage, OUTBOX)) {
      const part = waiting.slice(0, size);
      const answer = await fetch(`${root}/decisions`, {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ decisions: part }),
      });
      if (!answer.ok) await answer.body?.cancel(); // or the request stays open
      if (answer.status === 400 && part.length > 1) {
        size = 1; // one of them is refused, and only that one must not be kept
        continue;
      }
      if (answer.status === 400) {
        // The server will never take it: it stays out of the way of the others, and the reader is notified.
        notify({ refused: part });
      } else if (!answer.ok) {
        throw new Error(answer.status === 401 ? "Your session has ended. Log in to Airflow again; the decisions are kept." : `The server answered ${answer.status}.`);
      } else {
        notify({ saved: (await answer.json()).decisions });
      }
      const sent = new Set(part.map((each) => each.id));
      write(localStorage, OUTBOX, read(localStorage, OUTBOX).filter((each) => !sent.has(each.id)));
      failures = 0;
      notify({});
    }
  } catch (error) {
    notify({ failed: error.message });
    setTimeout(send, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  } finally {
    sending = false;
  }
};

/** Decide on records: [{record_id, token}], all with one verdict. One undo takes them back together. */
export const decide = (records, verdict, { label = null, comment = null } = {}) => {
  const made = records.map(({ record_id, token }) => ({ id: newId(), record_id, token, verdict, label: label || null, comment: comment || null }));
  write(localStorage, OUTBOX, [...read(localStorage, OUTBOX), ...made]);
  write(sessionStorage, HISTORY, [...read(sessionStorage, HISTORY), made].slice(-HISTORY_MAX));
  notify({});
  send();
  return made;
};

/** Take back the last decision of this session, on whichever page it was made; returns what was taken back. */
export const undo = () => {
  const history = read(sessionStorage, HISTORY);
  const last = history.pop();
  if (!last) return null;
  write(sessionStorage, HISTORY, history);
  const made = last.map(({ id, record_id, token }) => ({ id: newId(), record_id, token, takes_back: id }));
  write(localStorage, OUTBOX, [...read(localStorage, OUTBOX), ...made]);
  notify({});
  send();
  return last;
};

/** Call the action of a key unless somebody types into a field. */
export const onKeys = (actions) => {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea")) {
      if (event.key === "Escape" || event.key === "Enter") event.target.blur();
      return;
    }
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action && action(event) !== false) event.preventDefault();
  });
};

if (unsaved()) send();
