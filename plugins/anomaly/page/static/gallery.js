// Selection in the grid, decisions for all that are selected, and movement by keys.
import "./heat.js";
import { decide, onKeys } from "./decisions.js";
import { scoreAgain } from "./score_again.js";
import { show, undoLast } from "./toast.js";

const grid = document.getElementById("grid");
const bar = document.getElementById("bar");
const tiles = grid ? [...grid.children] : [];
const box = (tile) => tile.querySelector("input[type=checkbox]");
let last = -1;

const selected = () => tiles.filter((tile) => box(tile)?.checked);
const update = () => {
  const count = selected().length;
  for (const tile of tiles) tile.classList.toggle("picked", Boolean(box(tile)?.checked));
  if (!bar) return;
  bar.hidden = count === 0;
  document.getElementById("picked").textContent = count;
};
const clear = () => {
  for (const tile of selected()) box(tile).checked = false;
  update();
// Each page looks at a bounded number of records for an attribute; the search goes on until one has it.
if (document.getElementById("searching")) location.replace(document.querySelector('a[rel="next"]').href);
};
const mark = (tile, review) => {
  tile.querySelector(".badge.review")?.remove();
  if (!review) return;
  const badge = document.createElement("span");
  badge.className = `badge review ${review}`;
  badge.textContent = `✓ ${review}`;
  tile.querySelector(".picture").append(badge);
};
const decideAll = (verdict) => {
  const chosen = selected();
  if (!chosen.length) return false;
  decide(chosen.map((tile) => ({ record_id: Number(tile.dataset.record), token: Number(tile.dataset.token) })), verdict);
  for (const tile of chosen) mark(tile, verdict);
  show(`${chosen.length} ${chosen.length === 1 ? "record" : "records"}: ${verdict}.`, { undoable: true });
  clear();
  return true;
};
const takeBack = () => undoLast((back) => {
  for (const { record_id } of back) {
    const tile = tiles.find((each) => each.dataset.record === String(record_id));
    if (tile) mark(tile, null);
  }
});

for (const [index, tile] of tiles.entries()) {
  box(tile)?.addEventListener("click", (event) => {
    if (event.shiftKey && last >= 0) {
      for (const between of tiles.slice(Math.min(last, index), Math.max(last, index) + 1)) box(between).checked = event.target.checked;
    }
    last = index;
    update();
  });
}
const columns = () => getComputedStyle(grid).gridTemplateColumns.split(" ").length;
const move = (by) => () => {
  const at = tiles.findIndex((tile) => tile.contains(document.activeElement));
  const to = at < 0 ? 0 : Math.max(0, Math.min(tiles.length - 1, at + by()));
  tiles[to]?.querySelector("a").focus();
  return tiles.length > 0;
};
for (const button of document.querySelectorAll("[data-decide]")) button.addEventListener("click", () => decideAll(button.dataset.decide));
document.getElementById("none")?.addEventListener("click", clear);
document.getElementById("score-again")?.addEventListener("click", async () => {
  if (await scoreAgain(selected().map((tile) => Number(tile.dataset.record)))) clear();
});
document.getElementById("undo")?.addEventListener("click", takeBack);
onKeys({
  a: () => decideAll("anomaly"),
  n: () => decideAll("normal"),
  s: () => decideAll("unsure"),
  u: takeBack,
  x: () => {
    const tile = tiles.find((each) => each.contains(document.activeElement));
    if (!tile || !box(tile)) return false;
    box(tile).click();
    return true;
  },
  Escape: clear,
  ArrowRight: move(() => 1),
  ArrowLeft: move(() => -1),
  ArrowDown: move(() => columns()),
  ArrowUp: move(() => -columns()),
});
update();
