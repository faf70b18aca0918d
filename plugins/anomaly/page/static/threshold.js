// The slider shows the figures of the table's nearest row, and flags follow a stored threshold while the page is open.
const SVG = "http://www.w3.org/2000/svg";
const slider = document.getElementById("threshold");
const rows = [...document.querySelectorAll("#table tr[data-threshold]")];
const charts = [...document.querySelectorAll(".plots .chart")];
const value = (row) => Number(row.dataset.threshold);

const line = (chart, kind) => {
  const made = chart.querySelector(`.${kind}`) ?? chart.appendChild(document.createElementNS(SVG, "line"));
  made.setAttribute("class", kind);
  made.setAttribute("y1", "14");
  made.setAttribute("y2", String(chart.viewBox.baseVal.height - 26));
  return made;
};
const mark = (kind, at) => charts.forEach((chart) => ["x1", "x2"].forEach((end) => line(chart, kind).setAttribute(end, at)));

const show = (row) => {
  for (const cell of row.querySelectorAll("[data-of]")) {
    for (const place of document.querySelectorAll(`[data-figure="${cell.dataset.of}"]`)) place.textContent = cell.textContent;
  }
  document.querySelector('[data-figure="use"]')?.replaceChildren(row.querySelector('[data-of="threshold"]').textContent);
  for (const each of rows) each.toggleAttribute("aria-current", each === row);
  const kept = document.getElementById("kept");
  if (kept) kept.value = row.dataset.threshold;
  slider.setAttribute("aria-valuetext", row.querySelector('[data-of="threshold"]').textContent);
  mark("chosen", row.dataset.at);
};
const current = () => rows.findIndex((row) => row.hasAttribute("aria-current"));
const choose = (index) => {
  const row = rows[Math.min(rows.length - 1, Math.max(0, index))];
  slider.value = row.dataset.threshold;
  show(row);
};

if (slider && rows.length) {
  const now = document.querySelector('[data-figure="now"]');
  const at = rows.find((row) => now && row.querySelector('[data-of="threshold"]').textContent === now.textContent);
  if (at) mark("now", at.dataset.at);
  show(rows[Math.max(0, current())]);
  slider.addEventListener("input", () => {
    const wanted = Number(slider.value);
    show(rows.reduce((best, row) => (Math.abs(value(row) - wanted) < Math.abs(value(best) - wanted) ? row : best)));
  });
  // One key, one step: the steps lie at uneven distances where a stored threshold is between two others.
  const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
  slider.addEventListener("keydown", (event) => {
    const by = event.key === "Home" ? -rows.length : event.key === "End" ? rows.length : moves[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(current() + by);
  });
}

const follow = async () => {
  const region = document.getElementById("following");
  const form = document.getElementById("follow");
  if (!form) return;
  try {
    const answer = await fetch(form.action, { method: "POST", credentials: "same-origin", body: new URLSearchParams(new FormData(form)) });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("following");
    const moved = fresh.dataset.left !== region.dataset.left;
    region.replaceWith(fresh);
    if (moved) follow(); // what cannot follow, such as a locked row of a source, waits for the button
  } catch {
    region.querySelector("p").textContent = "The server does not answer. The records follow when maintenance runs, or when you continue.";
  }
};
follow();
