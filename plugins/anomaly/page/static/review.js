// The review queue: one key decides and goes on, arrows only move, the next images are loaded before they are asked for.
import "./heat.js";
import { showContext } from "./context.js";
import { decide, onChange, onKeys, undo, unsaved } from "./decisions.js";
import { shortTime } from "./times.js";
import { zoomable } from "./zoom.js";

const AHEAD = 3;
const REFILL = 10;
const at = (id) => document.getElementById(id);
const place = at("reviewing");
const mayDecide = place.dataset.mayDecide === "yes";
const zoom = zoomable(at("stage"), at("picture"));
const records = [];
const known = new Set();
const images = new Map();
const decided = new Map(); // record id → verdict of this session
const began = Date.now();
let position = 0, following = "", exhausted = false, loading = null, left = null;

const text = (id, value) => { at(id).textContent = value; };
const number = (value) => Number(value).toPrecision(4);

const fill = async () => {
  if (exhausted) return;
  loading ??= (async () => {
    const address = place.dataset.queue + (following ? `&${following}` : "");
    const answer = await fetch(address, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(answer.status === 401 ? "Your session has ended. Log in to Airflow again." : `The server answered ${answer.status}.`);
    const page = await answer.json();
    for (const record of page.records) {
      if (!known.has(record.record_id)) records.push(record);
      known.add(record.record_id);
    }
    left = { count: page.left, more: page.left >= page.left_max, decided: decided.size - unsaved() };
    following = page.following ?? "";
    exhausted = !page.following;
  })();
  try {
    await loading;
  } finally {
    loading = null;
  }
};

const preload = (record) => {
  for (const address of record ? [record.image, record.heatmap] : []) {
    if (!address || images.has(address)) continue;
    const image = new Image();
    image.src = address;
    image.decode().catch(() => {}); // a picture that is gone shows its sentence
    images.set(address, image);
    if (images.size > 60) images.delete(images.keys().next().value);
  }
};

const picture = (id, address, alt) => {
  const shown = at(id);
  shown.hidden = !address;
  if (address && shown.getAttribute("src") !== address) shown.src = address;
  shown.alt = alt;
};

const session = () => {
  const agreed = [...decided].filter(([id, verdict]) => {
    const record = records.find((each) => each.record_id === id);
    return record && verdict !== "unsure" && (verdict === "anomaly") === record.is_anomaly;
  }).length;
  const judged = [...decided.values()].filter((verdict) => verdict !== "unsure").length;
  text("done", decided.size);
  text("unsaved", unsaved());
  text("pace", decided.size ? ((decided.size / (Date.now() - began)) * 60000).toFixed(1) : "–");
  text("agreement", judged ? `${Math.round((agreed / judged) * 100)} % of ${judged}` : "–");
  if (left) text("left", left.more ? `${left.count}+` : Math.max(0, left.count - decided.size + Math.max(0, left.decided)));
};

/** In a queue with the random sample the detector's verdict stays covered until the reader decides or asks for it. */
const cover = (covered) => place.classList.toggle("covered", covered && place.dataset.mixed === "yes");

const show = () => {
  const record = records[position];
  zoom.reset();
  picture("image", record?.image, record ? `Image of record ${record.record_id}` : "");
  picture("heat", record?.heatmap, "");
  at("message").hidden = Boolean(record);
  if (!record) {
    text("message", records.length ? "All done: no further record waits for a review." : "No record waits for a review.");
    for (const id of ["score", "captured", "detector", "review-state", "record-link"]) text(id, "–");
    text("threshold", "");
    at("verdict").hidden = true;
    at("record-link").removeAttribute("href");
  } else {
    text("record-link", `Record ${record.record_id}`);
    at("record-link").href = record.page;
    text("score", number(record.score));
    text("threshold", record.threshold === null ? "" : `threshold ${number(record.threshold)}`);
    text("captured", record.image_at ? shortTime(new Date(record.image_at)) : "–");
    text("detector", record.detector);
    const mine = decided.get(record.record_id);
    text("review-state", mine ? `${mine}, by you` : record.review ? `${record.review}, by ${record.reviewed_by}` : "to be reviewed");
    const verdict = at("verdict");
    verdict.hidden = false;
    verdict.className = `badge says ${record.is_anomaly ? "anomaly" : "normal"}`;
    verdict.textContent = record.label ?? (record.is_anomaly ? "anomaly" : "normal");
  }
  showContext(record);
  cover(Boolean(record) && !decided.has(record.record_id));
  for (const field of mayDecide ? ["label", "comment"] : []) at(field).value = "";
  for (let n = 1; n <= AHEAD; n++) preload(records[position + n]);
  session();
};

const go = async (by) => {
  position = Math.max(0, Math.min(records.length, position + by));
  show();
  if (records.length - position < REFILL && !exhausted) {
    const shown = records[position];
    await start();
    if (!shown && records[position]) show();
  }
};

const start = async () => {
  try {
    await fill();
  } catch (error) {
    if (!records[position]) {
      at("message").hidden = false;
      text("message", `The queue could not be loaded: ${error.message}`);
    }
  }
};

const say = (verdict) => () => {
  const record = records[position];
  if (!record || !mayDecide) return false;
  decide([record], verdict, { label: at("label").value.trim(), comment: at("comment").value.trim() });
  decided.set(record.record_id, verdict);
  go(1);
  return true;
};
const takeBack = () => {
  const back = mayDecide ? undo() : null;
  if (!back) return;
  for (const { record_id } of back) decided.delete(record_id);
  const found = records.findIndex((each) => each.record_id === back[0].record_id);
  if (found >= 0) position = found;
  show();
};

for (const button of document.querySelectorAll("[data-decide]")) button.addEventListener("click", say(button.dataset.decide));
at("uncover")?.addEventListener("click", () => cover(false));
at("undo")?.addEventListener("click", takeBack);
at("previous").addEventListener("click", () => go(-1));
at("next").addEventListener("click", () => go(1));
onChange(({ failed, refused, saved }) => {
  session();
  const trouble = failed ? `Not saved yet, and tried again: ${failed}` : refused ? "The server refused a decision." : "";
  if (trouble) text("review-state", trouble);
  if (saved?.some((each) => !each.written)) text("review-state", "A record has no such verdict any more; nothing was decided.");
});
onKeys({
  a: say("anomaly"), n: say("normal"), s: say("unsure"), u: takeBack,
  ArrowRight: () => { go(1); }, ArrowLeft: () => { go(-1); }, j: () => { go(1); }, k: () => { go(-1); },
  c: () => at("comment")?.focus(), l: () => at("label")?.focus(), v: () => cover(false), Escape: () => zoom.reset(),
});
await start();
show();
