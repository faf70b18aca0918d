// Times in the zone and the language of the reader.
const SHORT = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false };

export const shortTime = (at) => at.toLocaleString(undefined, at.getFullYear() === new Date().getFullYear() ? SHORT : { ...SHORT, year: "numeric" });
