"use strict";
// Tables: a click on a head sorts by that column. Numbers that are better when higher
// start with the highest, others with the lowest; cells without a value stay last.
(() => {
  const collator = new Intl.Collator("en", { numeric: true });

  function sortBy(table, head) {
    const column = Number(head.dataset.column);
    const preferred = head.dataset.kind === "higher" ? "descending" : "ascending";
    const other = preferred === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === preferred ? other : preferred;
    const sign = order === "ascending" ? 1 : -1;
    const isText = head.dataset.kind === "text";
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [row, row.cells[column].dataset.value]);
    rows.sort(([, a], [, b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * (isText ? collator.compare(a, b) : Number(a) - Number(b));
    });
    body.append(...rows.map(([row]) => row));
    for (const each of table.querySelectorAll("th[data-column]")) {
      each.setAttribute("aria-sort", each === head ? order : "none");
    }
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const head of table.querySelectorAll("th[data-column]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(table, head));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    }
  }

  // Paper cannot be unfolded.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open], .choose)")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
    opened = [];
  });
})();
