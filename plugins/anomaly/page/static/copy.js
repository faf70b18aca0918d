// Buttons that copy the address of something in Airflow.
import { show } from "./toast.js";

for (const button of document.querySelectorAll("[data-copy-path]")) {
  button.addEventListener("click", async () => {
    // Airflow is where this page's own prefix begins.
    const link = location.origin + document.body.dataset.root.replace(/\/anomaly$/, "") + button.dataset.copyPath;
    try {
      await navigator.clipboard.writeText(link);
      show("The link is copied.");
    } catch {
      show(link);
    }
  });
}
