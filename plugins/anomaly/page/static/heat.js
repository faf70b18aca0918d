// Strength of the heat maps, remembered; holding H hides them.
const KEY = "anomaly.heat";
const slider = document.getElementById("strength");
const apply = (percent) => document.documentElement.style.setProperty("--heat", percent / 100);

apply(localStorage.getItem(KEY) ?? 45);
if (slider) {
  slider.value = localStorage.getItem(KEY) ?? 45;
  slider.addEventListener("input", () => {
    localStorage.setItem(KEY, slider.value);
    apply(slider.value);
  });
}
const typing = (event) => event.target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "h" && !typing(event) && !event.ctrlKey && !event.metaKey) document.body.classList.add("no-heat");
});
addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "h") document.body.classList.remove("no-heat");
});
addEventListener("blur", () => document.body.classList.remove("no-heat"));
