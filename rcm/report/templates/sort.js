// Heads of tables become buttons that sort: largest first, smallest first, as printed.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows], last = table.tHead.rows.length;
  const text = (row, column) => [...row.cells[column].childNodes]
    .filter((node) => node.nodeName !== "SMALL").map((node) => node.textContent).join("").trim();
  const number = (words) => /^[+\u2212-]?[\d,]*\.?\d+( ?%)?\*?$/.test(words)
    ? parseFloat(words.replace("\u2212", "-").replaceAll(",", "")) : NaN;
  const missing = (words) => words === "" || words === "\u2013";
  const heads = [...table.tHead.rows].flatMap((row) => [...row.cells])
    .filter((head) => head.parentNode.rowIndex + head.rowSpan === last);
  heads.forEach((head, column) => {
    const keys = new Map(rows.map((row) => [row, text(row, column)]));
    const present = rows.filter((row) => !missing(keys.get(row)));
    const absent = rows.filter((row) => missing(keys.get(row)));
    if (!present.length) return;
    const numeric = present.every((row) => !isNaN(number(keys.get(row))));
    const compare = (a, b) => numeric ? number(keys.get(a)) - number(keys.get(b))
      : keys.get(a).localeCompare(keys.get(b), "en", { numeric: true });
    const order = numeric ? ["descending", "ascending", ""] : ["ascending", "descending", ""];
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = order[(order.indexOf(head.getAttribute("aria-sort") ?? "") + 1) % 3];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const sorted = [...present].sort((a, b) => sign * compare(a, b));
      body.append(...(next ? [...sorted, ...absent] : rows));
    });
  });
}
