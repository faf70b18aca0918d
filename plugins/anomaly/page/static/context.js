// What belongs to the record in the review queue: the last good image of its source, the distribution of its scores, earlier verdicts.
import "./compare.js";
import { showTimes } from "./times.js";

const PAUSE_MS = 150; // a reader who moves on faster does not look at it
const place = document.getElementById("context");
let waiting = null, asked = null;

/** Show it for a record of the queue, or nothing. */
export const showContext = (record) => {
  clearTimeout(waiting);
  asked?.abort();
  place.replaceChildren();
  if (!record) return;
  waiting = setTimeout(async () => {
    asked = new AbortController();
    try {
      const answer = await fetch(record.context, { credentials: "same-origin", signal: asked.signal });
      if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
      const found = new DOMParser().parseFromString(await answer.text(), "text/html");
      showTimes(found);
      place.replaceChildren(...found.body.childNodes);
    } catch (error) {
      if (error.name === "AbortError") return;
      const sentence = document.createElement("p");
      sentence.className = "notice warning";
      sentence.textContent = `The images of its source could not be loaded. ${error.message}`;
      place.replaceChildren(sentence);
    }
  }, PAUSE_MS);
};
