// A card with the definition of a term, where the mouse or the keyboard rests on a link to the glossary.
"use strict";

(() => {
  const card = document.createElement("div");
  card.className = "term-card";
  card.id = "term-card";
  card.setAttribute("role", "tooltip");
  card.hidden = true;
  let leaving;

  function show(link) {
    clearTimeout(leaving);
    card.textContent = link.dataset.term;
    card.hidden = false;
    const at = link.getBoundingClientRect();
    const above = at.bottom + card.offsetHeight + 8 > innerHeight;
    card.style.left = `${Math.max(8, Math.min(at.left, innerWidth - card.offsetWidth - 8))}px`;
    card.style.top = `${above ? at.top - card.offsetHeight - 4 : at.bottom + 4}px`;
    link.setAttribute("aria-describedby", card.id);
  }

  function hide() {
    leaving = setTimeout(() => { card.hidden = true; }, 150);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(card);
    for (const link of document.querySelectorAll("a[data-term]")) {
      for (const event of ["mouseenter", "focus"]) link.addEventListener(event, () => show(link));
      for (const event of ["mouseleave", "blur"]) link.addEventListener(event, hide);
    }
    card.addEventListener("mouseenter", () => clearTimeout(leaving));
    card.addEventListener("mouseleave", hide);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") card.hidden = true; });
    document.addEventListener("scroll", () => { card.hidden = true; }, { passive: true });
  });
})();
