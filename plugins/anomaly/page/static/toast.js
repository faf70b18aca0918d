// The line that says what was decided, with an undo.
import { onChange, undo } from "./decisions.js";

const toast = document.getElementById("toast");
const text = document.getElementById("toast-text");
const button = document.getElementById("undo");

export const show = (sentence, { undoable = false } = {}) => {
  text.textContent = sentence;
  button.hidden = !undoable;
  toast.hidden = false;
};

export const undoLast = (after) => {
  const back = undo();
  show(back ? `${back.length === 1 ? "The decision is" : `${back.length} decisions are`} taken back.` : "There is nothing to take back.");
  if (back) after(back);
};

onChange(({ failed, refused, saved }) => {
  if (failed) show(`Not saved yet, and tried again: ${failed}`);
  if (refused) show("The server refused a decision.");
  if (saved?.some((each) => !each.written)) show("A record has no such verdict any more; nothing was decided.");
});
