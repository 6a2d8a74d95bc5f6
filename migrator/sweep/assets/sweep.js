(() => {
  "use strict";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const bar = document.querySelector(".bar");
  const body = document.querySelector("#table tbody");
  const rows = all(".row", body);

  // Filters. No state chosen means all of them.
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const filter = () => {
    const states = all("[name=state]:checked", bar).map((box) => box.value);
    const repository = bar.elements.repository.value;
    const words = bar.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let seen = 0;
    for (const row of rows) {
      row.hidden =
        (states.length > 0 && !states.includes(row.dataset.state)) ||
        (repository !== "" && row.dataset.repository !== repository) ||
        !words.every((word) => texts.get(row).includes(word));
      seen += row.hidden ? 0 : 1;
    }
    document.getElementById("none").hidden = seen > 0;
    document.getElementById("every").disabled = !states.length && !repository && !words.length;
    document.getElementById("shown").value =
      seen === rows.length ? `all ${rows.length} refs` : `${seen} of ${rows.length} refs`;
  };
  bar.hidden = false;
  bar.addEventListener("input", filter);
  bar.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("every").addEventListener("click", () => {
    bar.reset();
    filter();
  });
  for (const card of all(".card")) {
    card.addEventListener("click", () => {
      for (const box of all("[name=state]", bar)) box.checked = box.value === card.dataset.state;
      filter();
    });
  }
  bar.reset();
  filter();

  // Sorting: by number where both are numbers, else by text; what is empty comes last.
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const heads = all("#table th");
  for (const [column, head] of heads.entries()) {
    head.firstElementChild.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].textContent.trim();
      const order = (a, b) => {
        if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
        return up ? compare(a, b) : compare(b, a);
      };
      body.append(...rows.sort((a, b) => order(value(a), value(b))));
    });
  }
})();
