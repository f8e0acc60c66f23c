
// Tables are sorted by a click on a heading; what is folded is printed too.

function sortBy(table, column, button) {
  const heading = button.parentElement;
  const falling = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value.replace("inf", "Infinity"));
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b || 0
    : String(a).localeCompare(String(b), "en", { numeric: true }));
  const body = table.tBodies[0], rows = [...body.rows].sort((a, b) => compare(key(a), key(b)));
  body.append(...(falling ? rows.reverse() : rows));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = make("button", { type: "button" }, heading.textContent || "name");
    button.addEventListener("click", () => sortBy(table, column, button));
    heading.replaceChildren(button);
  });
}

window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
