// Signing in on the device page. The session's token is kept for this window only; whoever does nothing for as long as a session lives is
// signed out, and what was shown of them goes.

import { announce, html, keep, live } from "./live.js";

const API = "/v1";
const KEY = "carrel-session";
const REFRESH_S = 10;
// The page asks again for what is shown only while somebody uses it: asking counts as using the session.
const IN_USE_MS = 60_000;
const IDLE_LOOK_MS = 5_000;
const SYNC_MAX_MS = 30_000;

const find = (name) => document.querySelector(`[data-${name}]`);
const signedOut = find("signed-out");
const signedIn = find("signed-in");
const idleMaxMs = Number(signedIn.dataset.idleMs);
const form = find("sign-in");
const problem = find("problem");
const outcome = find("outcome");
const student = find("student");

let session = null; // { token }
let usedAtMs = Date.now();
let kept = null;
let idleTimer = null;

async function ask(method, path, body) {
  const headers = {};
  if (session) headers.Authorization = `Bearer ${session.token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(API + path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(SYNC_MAX_MS) });
  const text = await answer.text();
  const value = text ? JSON.parse(text) : null;
  if (!answer.ok) throw value;
  return value;
}

async function studentPart() {
  if (Date.now() - usedAtMs > IN_USE_MS) return null;
  return ownPart();
}

async function ownPart() {
  try {
    return await html("/pages/student", { Authorization: `Bearer ${session.token}` });
  } catch (refusal) {
    if (!(refusal instanceof Response)) throw refusal;
    leave(refusal.status === 401 ? "You were signed out, because this page was not used for a while." : "This cannot be shown just now.");
    return null;
  }
}

async function enter(found) {
  session = found;
  sessionStorage.setItem(KEY, JSON.stringify(found));
  usedAtMs = Date.now();
  say("");
  const part = await ownPart();
  if (part === null || session !== found) return;
  student.innerHTML = part;
  signedOut.hidden = true;
  signedIn.hidden = false;
  kept = keep(student, studentPart, REFRESH_S);
  idleTimer = setInterval(leaveWhenIdle, IDLE_LOOK_MS);
}

/** Shows the form again, with a sentence that says why; nothing of the student stays in the page. */
function leave(sentence = "") {
  kept?.stop();
  clearInterval(idleTimer);
  kept = session = null;
  sessionStorage.removeItem(KEY);
  student.replaceChildren();
  signedIn.hidden = true;
  signedOut.hidden = false;
  say(sentence);
}

function leaveWhenIdle() {
  if (session && Math.abs(Date.now() - usedAtMs) > idleMaxMs) {
    ask("DELETE", "/sessions").catch(() => {});
    leave("You were signed out, because this page was not used for a while.");
  }
}

function say(sentence) {
  problem.textContent = sentence;
  problem.hidden = sentence === "";
}

const refusal = (error) => error?.detail ?? "Carrel does not answer on this machine. Try again in a moment.";

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  say("");
  try {
    const { username, pin } = Object.fromEntries(new FormData(form));
    const made = await ask("POST", "/sessions", { username: username.trim(), pin });
    form.reset();
    await enter({ token: made.token });
    signedIn.querySelector("button").focus();
  } catch (error) {
    say(refusal(error));
    form.elements.pin.value = "";
    form.elements.pin.focus();
  }
  button.disabled = false;
});

find("sign-out").addEventListener("click", async () => {
  await ask("DELETE", "/sessions").catch(() => {});
  leave();
  announce("Signed out");
  form.elements.username.focus();
});

find("sync").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  button.disabled = true;
  outcome.textContent = "Syncing…";
  try {
    outcome.textContent = outcomeOf(await ask("POST", "/sync"));
  } catch (error) {
    if (error?.status === 401) leave("You were signed out, because this page was not used for a while.");
    else outcome.textContent = refusal(error);
  }
  button.disabled = false;
  usedAtMs = Date.now();
  kept?.now();
  live.get(document.querySelector("[data-live]")).now();
});

function outcomeOf(round) {
  if (!round.finished) return "The sync goes on in the background.";
  if (round.outcome === "done") return `Synced: ${round.pushed} sent, ${round.pulled} received.`;
  return `${round.message ?? "The school was not reached."} Everything is kept here.`;
}

for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, () => (usedAtMs = Date.now()), { passive: true });

const stored = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
signedOut.hidden = false;
if (stored) enter(stored).catch(() => {});
