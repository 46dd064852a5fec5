/* What the figures that move have in common: how they start, elements, sliders, axes. */
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };
  const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  /* Each figure of a kind: its stage comes before the pictures of the static twin, which the style sheet hides. */
  const start = (kind, build) => {
    const all = () => {
      for (const root of document.querySelectorAll(`.moving[data-kind="${kind}"]`)) {
        const figure = root.querySelector("figure");
        const stage = el("div", { class: "stage" });
        figure.prepend(stage);
        root.classList.add("ready"); // the stage has its width from now on
        try {
          build(stage, JSON.parse(root.querySelector('script[type="application/json"]').textContent), figure);
        } catch (error) {
          root.classList.remove("ready");
          stage.remove();
          throw error;
        }
      }
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
    else all();
  };

  /* With a true minus sign and so many decimals. */
  const number = (value, decimals) => value.toFixed(decimals).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  /* Decimals that tell about a thousandth of a range apart. */
  const decimals = (range) => Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(range / 3 || 1))));

  const ticks = (low, high, count) => {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) found.push(n * step);
    return { values: found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  };
  const logTicks = (low, high) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const n of [1, 2, 5]) if (n * 10 ** power >= low && n * 10 ** power <= high) found.push(n * 10 ** power);
    return found;
  };

  /* A drawing area with axes: {node, area, x, y, left, right, top, bottom}; x and y turn values into pixels. */
  const axes = ({ width, height, x, y, xlabel, ylabel, log, xticks }) => {
    const [left, right, top, bottom] = [52, width - 10, 10, height - 42];
    const to = log ? Math.log : (value) => value;
    const scale = (from, into) => (value) => into[0] + ((into[1] - into[0]) * (value - from[0])) / (from[1] - from[0]);
    const along = scale(x.map(to), [left, right]);
    const sx = (value) => along(to(value));
    const sy = scale(y, [bottom, top]);
    const node = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const rows = ticks(...y, height / 45);
    for (const value of rows.values) {
      node.append(svg("line", { class: value === 0 ? "zero" : "grid", x1: left, x2: right, y1: sy(value), y2: sy(value) }));
      node.append(svg("text", { x: left - 6, y: sy(value) + 4, "text-anchor": "end" }, number(value, rows.decimals)));
    }
    const columns = log ? { values: logTicks(...x), decimals: null } : ticks(...x, xticks || width / 70);
    for (const value of columns.values) {
      node.append(svg("line", { class: "grid", x1: sx(value), x2: sx(value), y1: top, y2: bottom }));
      const said = columns.decimals === null ? String(+value.toPrecision(2)) : number(value, columns.decimals);
      node.append(svg("text", { x: sx(value), y: bottom + 17, "text-anchor": "middle" }, said));
    }
    node.append(svg("text", { x: (left + right) / 2, y: height - 5, "text-anchor": "middle" }, xlabel || ""));
    node.append(svg("text", { transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, ylabel || ""));
    const area = node.appendChild(svg("g", {}));
    return { node, area, x: sx, y: sy, left, right, top, bottom };
  };
  const path = (xs, ys, plot) => {
    let text = "";
    let pen = "M";
    xs.forEach((x, i) => {
      if (ys[i] === null || !Number.isFinite(ys[i])) pen = "M";
      else {
        text += `${pen}${plot.x(x).toFixed(1)} ${plot.y(ys[i]).toFixed(1)}`;
        pen = "L";
      }
    });
    return text;
  };

  /* A labelled slider; `say` puts its number into words. */
  const slider = (label, { min, max, step, value, say = String }, change) => {
    const output = el("output", {}, say(value));
    const input = el("input", { type: "range", min, max, step, value, "aria-label": label, "aria-valuetext": say(value) });
    const set = (next) => {
      input.value = next;
      shown();
    };
    const shown = () => {
      const said = say(+input.value);
      output.textContent = said;
      input.setAttribute("aria-valuetext", said);
    };
    input.addEventListener("input", () => {
      shown();
      change(+input.value);
    });
    return { node: el("label", { class: "slider" }, el("span", {}, label), input, output), input, set };
  };

  /* Buttons of which one is pressed. */
  const choice = (label, names, chosen, change) => {
    const buttons = names.map((name) => el("button", { type: "button", onclick: () => set(name, true) }, name));
    const set = (name, tell) => {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", names[i] === name));
      if (tell) change(name);
    };
    set(chosen);
    return { node: el("div", { class: "choice", role: "group", "aria-label": label }, el("span", {}, label), ...buttons), set };
  };

  /* A line as legends show it. */
  const swatch = (colour, dash) =>
    svg("svg", { class: "drawn", width: 26, height: 10, "aria-hidden": "true" },
      svg("path", { d: "M0 5H26", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash.map((n) => n * 2).join(" ") }));

  const resized = (node, draw) => {
    let width = 0;
    new ResizeObserver(() => {
      if (node.clientWidth && node.clientWidth !== width) {
        width = node.clientWidth;
        draw();
      }
    }).observe(node);
  };

  window.moving = { el, svg, start, number, decimals, axes, path, slider, choice, swatch, resized };
})();
