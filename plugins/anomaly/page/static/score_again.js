// Selected records are made due again; the next run asks the detector anew.
import { show } from "./toast.js";

const root = document.body.dataset.root;

export const scoreAgain = async (ids) => {
  try {
    const answer = await fetch(`${root}/score-again`, {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ record_ids: ids }),
    });
    if (!answer.ok) throw new Error(answer.status === 401 ? "Your session has ended. Log in to Airflow again." : `The server answered ${answer.status}.`);
    const { records } = await answer.json();
    const already = records < ids.length ? ` ${ids.length - records} already wait or are in work.` : "";
    show(`The next run asks the detector anew about ${records} ${records === 1 ? "record" : "records"}.${already}`);
    return true;
  } catch (error) {
    show(`Nothing was changed: ${error.message}`);
    return false;
  }
};
