(() => {
  "use strict";
  const root = document.documentElement;
  const bar = document.querySelector(".bar");
  const help = document.getElementById("help");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("js");

  // What is scrolled to lies below the filters, however many lines they take.
  const measured = () => root.style.setProperty("--bar", `${bar.offsetHeight}px`);
  if (bar) new ResizeObserver(measured).observe(bar);

  // Unified or side by side: what the address says, else what the width allows.
  const toggle = document.getElementById("view");
  const asked = () => new URLSearchParams(location.hash.slice(1)).get("view");
  const show = (view) => {
    root.dataset.view = view;
    toggle?.setAttribute("aria-pressed", String(view === "split"));
  };
  const fitting = () => (matchMedia("(min-width: 60rem)").matches ? "split" : "unified");
  const flip = () => {
    const view = root.dataset.view === "split" ? "unified" : "split";
    show(view);
    location.replace(`#view=${view}`);
  };
  show(asked() === "split" || asked() === "unified" ? asked() : fitting());
  addEventListener("hashchange", () => asked() && show(asked() === "split" ? "split" : "unified"));
  toggle?.addEventListener("click", flip);

  // Filters. No rule chosen means all of them.
  const filter = () => {
    const rules = all("[name=rule]:checked", bar).map((box) => box.value);
    const folder = bar.elements.folder.value;
    const of = (element) => (element.dataset.rules ?? "").split(" ");
    const within = (element) => !folder || element.dataset.folders.split(" ").includes(folder);
    const chosen = (element) => !rules.length || rules.some((rule) => of(element).includes(rule));
    let seen = 0;
    for (const file of all(".file")) {
      const parts = all("[data-rules]", file);
      for (const part of parts) part.hidden = !within(file) || !chosen(part);
      file.hidden = parts.every((part) => part.hidden);
      seen += parts.filter((part) => part.matches(".hunk") && !part.hidden).length;
    }
    for (const hazard of all(".hazard")) hazard.hidden = !within(hazard) || !chosen(hazard);
    const total = all(".hunk").length;
    document.getElementById("none").hidden = all(".file").some((file) => !file.hidden);
    document.getElementById("every").disabled = !rules.length && !folder;
    document.getElementById("shown").value =
      seen === total ? `all ${total} hunks` : `${seen} of ${total} hunks`;
  };
  if (bar) {
    bar.hidden = false;
    bar.addEventListener("change", filter);
    bar.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("every").addEventListener("click", () => {
      bar.reset();
      filter();
    });
    document.getElementById("keys").addEventListener("click", () => help.showModal());
    bar.reset();
    filter();
  }
  document.getElementById("close").addEventListener("click", () => help.close());

  // Keys.
  const go = (by) => {
    const hunks = all(".hunk").filter((hunk) => hunk.getClientRects().length);
    const here = hunks.indexOf(document.activeElement?.closest(".hunk"));
    const top = bar ? bar.offsetHeight + 1 : 1;
    let next = here + by;
    if (here < 0) {
      const below = hunks.findIndex((hunk) => hunk.getBoundingClientRect().top >= top);
      next = by > 0 ? below : (below < 0 ? hunks.length : below) - 1;
    }
    const hunk = hunks[next];
    if (!hunk) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    hunk.focus({ preventScroll: true });
    hunk.scrollIntoView({ behavior: still ? "instant" : "smooth", block: "start" });
  };
  const keys = { j: () => go(1), k: () => go(-1), u: flip, "?": () => help.showModal() };
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("select, textarea, input:not([type=checkbox])");
    if (help.open || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (Object.hasOwn(keys, event.key)) {
      event.preventDefault();
      keys[event.key]();
    }
  });
})();
