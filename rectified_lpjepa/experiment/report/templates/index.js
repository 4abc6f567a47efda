"use strict";

// Empty cells come last either way; numbers are compared as numbers, all else as text.
function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const x = Number(a), y = Number(b);
  if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
  return sign * a.localeCompare(b, "en", { numeric: true });
}

function sortBy(table, column, ascending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const value = (row) => row.cells[column].dataset.value;
  rows.sort((a, b) => compare(value(a), value(b), ascending ? 1 : -1));
  body.append(...rows);
  Array.from(table.tHead.rows[0].cells).forEach((head, index) => {
    head.setAttribute("aria-sort", index !== column ? "none" : ascending ? "ascending" : "descending");
  });
}

function filter(table, text, output) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Array.from(table.tBodies[0].rows);
  for (const row of rows) {
    const content = Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
  }
  const shown = rows.filter((row) => !row.hidden).length;
  output.value = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
}

for (const table of document.querySelectorAll("table")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      sortBy(table, column, head.getAttribute("aria-sort") !== "ascending");
    });
  });
}

for (const input of document.querySelectorAll("input[type=search]")) {
  const output = document.querySelector(`output[for="${input.id}"]`);
  const update = () => filter(document.getElementById(input.dataset.table), input.value, output);
  input.addEventListener("input", update);
  update(); // a browser keeps what was typed when a page is loaded again
}
