// Says what a cell of a large heat map is: under the pointer, or by arrow keys from one row's strip. Titles of columns and words for levels stand on the
// page once; each row holds its cells as `step.score.answers`. Without this script the strips, the list of columns and the table say all of it.

const said = document.querySelector("[data-cell-said]");
const rows = [...document.querySelectorAll("[data-cells]")].map((cell) => ({
  strip: cell.querySelector("svg"),
  name: cell.closest("tr").querySelector("th").textContent.trim(),
  cells: cell.dataset.cells.split(" "),
}));
const columns = [...document.querySelectorAll("[data-column]")].map((one) => one.dataset.column);
const levels = Object.fromEntries([...document.querySelectorAll("[data-step]")].map((one) => [one.dataset.step, one.dataset.level]));

const inWords = (cell) => {
  const [step, score, answers] = cell.split(".");
  const counted = answers ? `, ${answers} answer${answers === "1" ? "" : "s"}` : "";
  return `${score ? `${score} of 100, ` : ""}${levels[step]}${counted}`;
};
const sentence = (row, place) => `${row.name}, ${columns[place]}: ${inWords(row.cells[place])}`;

let place = 0;

function mark(row, at) {
  document.querySelector(".cell-mark")?.remove();
  const frame = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ class: "cell-mark", x: at, width: 1, height: 24 })) frame.setAttribute(name, value);
  row.strip.append(frame);
}

function show(row, at) {
  said.textContent = sentence(row, at);
  mark(row, at);
}

function go(row, at) {
  place = Math.max(0, Math.min(at, row.cells.length - 1));
  show(row, place);
  document.querySelector("[data-announce]").textContent = sentence(row, place);
}

const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
const lines = { ArrowUp: -1, ArrowDown: 1 };

rows.forEach((row, number) => {
  // One stop for the tabulator in the whole map; the arrows lead on.
  row.strip.setAttribute("tabindex", number ? "-1" : "0");
  const pointed = (event) => {
    const box = row.strip.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * row.cells.length);
    if (at >= 0 && at < row.cells.length) show(row, at);
  };
  for (const kind of ["pointermove", "pointerdown"]) row.strip.addEventListener(kind, pointed);
  row.strip.addEventListener("focus", () => go(row, place));
  row.strip.addEventListener("keydown", (event) => {
    if (event.key in steps) go(row, place + steps[event.key]);
    else if (event.key in lines) rows[number + lines[event.key]]?.strip.focus();
    else return;
    event.preventDefault();
  });
});

if (said && rows.length) {
  said.textContent = said.dataset.hint;
  said.hidden = false;
}
