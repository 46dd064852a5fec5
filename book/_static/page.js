// What the pages need beyond their HTML: regions that scroll can be reached with the keyboard, a link to something
// folded opens it, and the search shows sentences of what it found.
"use strict";

const SCROLLS = "figure, .scroll, pre, div.math, .pst-scrollable-table-container";

function reachable() {
  for (const region of document.querySelectorAll(`.bd-article :is(${SCROLLS})`)) {
    const scrolls = region.scrollWidth > region.clientWidth + 1;
    if (scrolls && region.tabIndex < 0) {
      region.tabIndex = 0;
      region.dataset.reachable = "";
    } else if (!scrolls && "reachable" in region.dataset) {
      region.removeAttribute("tabindex");
      delete region.dataset.reachable;
    }
  }
}

function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target && target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  if (target) target.scrollIntoView();
}

// The sentence around the first word that was looked for, out of prose.js.
function sentence(text, words) {
  const lower = text.toLowerCase();
  const places = words.map((word) => lower.indexOf(word)).filter((place) => place >= 0);
  const middle = places.length ? Math.min(...places) : 0;
  const start = middle < 100 ? 0 : text.indexOf(" ", middle - 90) + 1;
  const end = start + 220 < text.length ? text.lastIndexOf(" ", start + 220) : text.length;
  return (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
}

function explainResults() {
  const results = document.getElementById("search-results");
  if (!results || !window.prose) return;
  const words = (new URLSearchParams(location.search).get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  new MutationObserver((changes) => {
    for (const item of changes.flatMap((change) => [...change.addedNodes])) {
      const link = item.nodeName === "LI" && item.querySelector("a");
      if (!link || item.querySelector(".found")) continue;
      const page = link.getAttribute("href").replace(/\.html.*$/, "");
      const found = Object.assign(document.createElement("p"), { className: "found" });
      found.textContent = sentence(window.prose[page] || "", words);
      item.append(found);
    }
  }).observe(results, { childList: true, subtree: true });
}

document.addEventListener("DOMContentLoaded", () => {
  explainResults();
  reachable();
  unfold();
});
addEventListener("load", reachable);
addEventListener("resize", reachable);
addEventListener("hashchange", unfold);
document.addEventListener("toggle", reachable, true);
