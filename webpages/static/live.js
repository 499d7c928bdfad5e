// Keeps parts of a page as they are now. A part is an element with `data-live`, the address of its HTML, and `data-live-s`, how often that is asked
// for. Nothing is asked while the page is not looked at; when nothing answers, the next question comes later and later, and the page says so.

const EVERY_S = 5;
const LATER_MAX_S = 60;
const ANSWER_MAX_MS = 8000;

let lostSince = null;

/** Replaces what is in `part` every `everyS` seconds by what `ask` gives (HTML of our own server, or null for no change), until `stop` is called. */
export function keep(part, ask, everyS = EVERY_S) {
  let timer = null;
  let failures = 0;
  let stopped = false;
  let busy = false;
  let shown = part.innerHTML.trim();

  const next = () => {
    clearTimeout(timer);
    if (!stopped && !document.hidden) timer = setTimeout(now, Math.min(everyS * 2 ** failures, LATER_MAX_S) * 1000);
  };
  const now = async () => {
    if (stopped || busy || document.hidden) return;
    busy = true;
    try {
      const html = await ask();
      failures = 0;
      found();
      if (html !== null && !stopped && html.trim() !== shown) shown = show(part, html.trim());
    } catch {
      failures += 1;
      lost();
    }
    busy = false;
    next();
  };
  document.addEventListener("visibilitychange", now);
  next();
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", now);
  };
  return { now, stop };
}

/** The HTML at an address of this server. Throws what fetch throws, and the answer itself when it is a refusal. */
export async function html(address, headers = {}) {
  const answer = await fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MAX_MS) });
  if (!answer.ok) throw answer;
  return answer.text();
}

/** Has a screen reader say this sentence. */
export function announce(sentence) {
  document.querySelector("[data-announce]").textContent = sentence;
}

function show(part, text) {
  const said = () => part.querySelector("[data-say]")?.textContent ?? "";
  const before = said();
  part.innerHTML = text;
  if (said() !== before) announce(said());
  return text;
}

function lost() {
  if (lostSince !== null) return;
  lostSince = new Date();
  document.querySelector("[data-lost-since]").textContent = `at ${lostSince.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`;
  document.querySelector("[data-lost]").hidden = false;
}

function found() {
  lostSince = null;
  document.querySelector("[data-lost]").hidden = true;
}

/** What keeps each part of this page that has `data-live`: `live.get(part).now()` asks for it at once. */
export const live = new Map();
for (const part of document.querySelectorAll("[data-live]")) {
  live.set(part, keep(part, () => html(part.dataset.live), Number(part.dataset.liveS) || EVERY_S));
}
