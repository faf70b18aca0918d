// Holding B shows the last good image of the source in place of the image.
const picture = document.getElementById("picture");
let overlay = null;

const typing = (event) => event.target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
const hide = () => {
  overlay?.remove();
  overlay = null;
};
const showGood = () => {
  const good = document.getElementById("good-image");
  if (overlay || !good || !picture) return;
  overlay = document.createElement("img");
  overlay.className = "in-place";
  overlay.alt = good.alt;
  overlay.src = good.src;
  picture.append(overlay);
};
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "b" && !typing(event) && !event.ctrlKey && !event.metaKey && !event.altKey) showGood();
});
addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "b") hide();
});
addEventListener("blur", hide);
