// Behaviour that every page shares. Without scripts, links and forms still work.
import { showTimes } from "./times.js";

const isBusy = (region) => region.contains(document.activeElement) && document.activeElement !== document.body
  || region.querySelector("details[open]") !== null;

const refresh = async (region) => {
  if (document.hidden || isBusy(region)) return;
  try {
    const answer = await fetch(region.dataset.refresh, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (isBusy(region)) return;
    showTimes(fresh);
    region.replaceChildren(...fresh.body.childNodes);
    region.classList.remove("stale");
  } catch {
    region.classList.add("stale"); // the figures stay, marked, until the server answers again
  }
};

showTimes(document);
for (const region of document.querySelectorAll("[data-refresh]")) {
  setInterval(() => refresh(region), Number(region.dataset.seconds) * 1000);
}
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.confirm[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.confirm[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});
