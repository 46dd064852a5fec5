/* One photograph before and after: a seam to drag, error maps, a loupe (companion.moving.before_after).
   The pictures are those of the static twin. */
(() => {
  "use strict";
  const ZOOM = 4;
  const build = (stage, data, figure) => {
    const { el, choice, number } = window.moving;
    const twins = new Map([...figure.querySelectorAll("img[data-side]")].map((image) => [`${image.dataset.name} ${image.dataset.side}`, image]));
    const side = (pair, name) => {
      const copy = twins.get(`${pair.name} ${name}`).cloneNode();
      copy.loading = "eager";
      copy.draggable = false;
      return copy;
    };
    let pair = data.pairs[0];
    let mode, spot, loupe = false;

    const pictures = el("div", { class: "pictures" });
    const seam = el("div", { class: "seam" });
    const frame = el("div", { class: "frame" });
    const labels = [el("span", { class: "label left" }), el("span", { class: "label right" })];
    const view = el("div", { class: "view", role: "group", "aria-label": "Pictures; with the loupe, arrow keys move it" }, pictures, seam, frame, ...labels);
    const range = el("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": "Seam between before and after" });
    const lenses = el("div", { class: "lenses", hidden: "" });
    const photographs = choice("Photograph", data.pairs.map(({ title }) => title), pair.title, (title) => open(data.pairs.find((other) => other.title === title)));
    const modes = el("div", {});
    const glass = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
      loupe = !loupe;
      glass.setAttribute("aria-pressed", loupe);
      if (loupe) view.setAttribute("tabindex", 0);
      else view.removeAttribute("tabindex");
      lenses.hidden = frame.hidden = !loupe;
      look();
    } }, `${ZOOM}× loupe`);
    const controls = el("div", { class: "controls" });
    if (data.pairs.length > 1) controls.append(photographs.node);
    controls.append(modes, glass);
    stage.append(controls, view, range, lenses);

    const sides = () => ({ pictures: ["base", "refined"], "error maps": ["base-error", "refined-error"], original: ["original", "refined"] })[mode];
    const open = (next) => {
      pair = next;
      spot = [...pair.centre];
      stage.style.setProperty("--ratio", pair.width / pair.height);
      stage.style.setProperty("--width", `${pair.shown || pair.width * 2}px`);
      const known = ["pictures", ...(twins.has(`${pair.name} base-error`) ? ["error maps"] : []), ...(twins.has(`${pair.name} original`) ? ["original"] : [])];
      const shown = known.includes(mode) ? mode : "pictures";
      modes.replaceChildren(...(known.length > 1 ? [choice("Show", known, shown, show).node] : []));
      show(shown);
    };
    const show = (next) => {
      mode = next;
      pictures.replaceChildren(...sides().map((name) => side(pair, name)));
      sides().forEach((name, i) => (labels[i].textContent = pair.labels[name]));
      lenses.replaceChildren(...sides().map((name) => el("div", { class: "lens" }, side(pair, name), el("span", {}, pair.labels[name].split(":")[0]))));
      move();
      look();
    };
    const move = () => {
      const at = +range.value;
      pictures.lastElementChild.style.clipPath = `inset(0 0 0 ${at}%)`;
      seam.style.left = `${at}%`;
      const [left, right] = sides().map((name) => pair.labels[name]);
      range.setAttribute("aria-valuetext", `left ${at} %: ${left}; right: ${right}`);
    };
    /* The loupe shows what lies around its spot, in pixels of the picture. */
    const look = () => {
      if (!loupe) return;
      const [width, height] = [lenses.firstElementChild.clientWidth / ZOOM, lenses.firstElementChild.clientHeight / ZOOM];
      const bound = (value, length, whole) => Math.min(Math.max(value, length / 2), Math.max(length / 2, whole - length / 2));
      spot = [bound(spot[0], width, pair.width), bound(spot[1], height, pair.height)];
      for (const image of lenses.querySelectorAll("img")) {
        image.style.width = `${pair.width * ZOOM}px`;
        image.style.transform = `translate(${-ZOOM * (spot[0] - width / 2)}px, ${-ZOOM * (spot[1] - height / 2)}px)`;
      }
      frame.style.left = `${(100 * (spot[0] - width / 2)) / pair.width}%`;
      frame.style.top = `${(100 * (spot[1] - height / 2)) / pair.height}%`;
      frame.style.width = `${(100 * width) / pair.width}%`;
      frame.style.height = `${(100 * height) / pair.height}%`;
      view.setAttribute("aria-label", `Pictures; loupe at ${number(spot[0], 0)}, ${number(spot[1], 0)}, arrow keys move it`);
    };

    range.addEventListener("input", move);
    const place = (event) => {
      const box = view.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((part) => Math.min(1, Math.max(0, part)));
    };
    const drag = (event) => {
      const [x, y] = place(event);
      if (loupe) {
        spot = [x * pair.width, y * pair.height];
        look();
      } else {
        range.value = 100 * x;
        move();
      }
    };
    view.addEventListener("pointerdown", (event) => {
      view.setPointerCapture(event.pointerId);
      drag(event);
    });
    view.addEventListener("pointermove", (event) => {
      if (event.buttons || (loupe && event.pointerType === "mouse")) drag(event);
    });
    view.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
      if (!loupe || !step) return;
      event.preventDefault();
      spot = [spot[0] + step[0], spot[1] + step[1]];
      look();
    });
    lenses.hidden = frame.hidden = true;
    open(pair);
    new ResizeObserver(look).observe(stage);
  };
  document.addEventListener("DOMContentLoaded", () => window.moving.start("before-after", build));
})();
