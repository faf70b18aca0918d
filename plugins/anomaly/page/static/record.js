// The page about one record: zoom, regions, the decision.
import "./compare.js";
import "./copy.js";
import "./heat.js";
import { decide, onKeys } from "./decisions.js";
import { show, undoLast } from "./toast.js";
import { zoomable } from "./zoom.js";

const image = document.getElementById("image");
const regions = document.getElementById("regions");
const card = document.getElementById("decision");
const state = document.getElementById("review-state");
const zoom = image ? zoomable(document.getElementById("stage"), document.getElementById("picture")) : null;

document.getElementById("show-regions")?.addEventListener("change", (event) => regions.classList.toggle("hidden", !event.target.checked));

let nextRegion = 0;
const zoomToRegion = () => {
  const shapes = regions ? [...regions.querySelectorAll("polygon")] : [];
  if (!shapes.length) return false;
  const box = shapes[nextRegion++ % shapes.length].getBBox();
  zoom.zoomTo(box.x, box.y, box.width, box.height);
  return true;
};

const say = (verdict) => () => {
  if (!card?.querySelector("[data-decide]")) return false;
  decide([{ record_id: Number(card.dataset.record), token: Number(card.dataset.token) }], verdict);
  state.textContent = `${verdict}, by you`;
  show(`Decided: ${verdict}.`, { undoable: true });
  return true;
};
const takeBack = () => undoLast(() => { state.textContent = "taken back; reload to see what counts"; });
for (const button of card?.querySelectorAll("[data-decide]") ?? []) button.addEventListener("click", say(button.dataset.decide));
document.getElementById("undo").addEventListener("click", takeBack);
onKeys({ a: say("anomaly"), n: say("normal"), s: say("unsure"), u: takeBack, z: zoomToRegion, Escape: () => zoom?.reset() });
