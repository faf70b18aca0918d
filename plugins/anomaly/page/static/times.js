// Times in the zone and the language of the reader.
const SHORT = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false };

export const shortTime = (at) => at.toLocaleString(undefined, at.getFullYear() === new Date().getFullYear() ? SHORT : { ...SHORT, year: "numeric" });

/** Show the times of a part of the page in the reader's zone. */
export const showTimes = (within) => {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.valueOf())) {
      time.title = time.textContent;
      time.textContent = shortTime(at);
    }
  }
};
