/* Lines with intervals: hover or keys read them off, buttons leave methods out (companion.moving.lines). */
(() => {
  "use strict";
  const build = (stage, data) => {
    const { el, svg, axes, path, number, decimals, choice, swatch, resized } = window.moving;
    const hidden = new Set();
    const looks = new Map(data.methods.map((method) => [method.name, method]));
    let chosen = data.choices[0];
    let images = false;

    const buttons = data.methods.map(({ name, colour, dash }) =>
      el("button", { type: "button", "aria-pressed": "true", onclick: (event) => toggle(name, event.currentTarget) },
        swatch(colour, dash), name));
    const toggle = (name, button) => {
      if (!hidden.delete(name)) hidden.add(name);
      button.setAttribute("aria-pressed", !hidden.has(name));
      panels.forEach((panel) => panel.draw());
    };
    const controls = el("div", { class: "controls" }, el("div", { class: "legend", role: "group", "aria-label": "Methods shown" }, ...buttons));
    if (data.choices.length > 1)
      controls.append(choice("Show", data.choices, chosen, (name) => {
        chosen = name;
        panels.forEach((panel) => panel.draw());
      }).node);
    if (data.panels.some((panel) => panel.lines.some((line) => line.image)))
      controls.append(el("label", {}, el("input", { type: "checkbox", onchange: (event) => {
        images = event.target.checked;
        panels.forEach((panel) => panel.draw());
      } }), " photographs behind the means"));
    const grid = el("div", { class: data.panels.length > 1 ? "panels" : "panels single" });
    stage.append(controls, grid, el("p", { class: "hint" }, "Point at a line or use the arrow keys to read values; a method's name leaves it out."));

    const makePanel = ({ title, lines }) => {
      const said = [title, data.ylabel].filter(Boolean).join(", ") || data.xlabel;
      const holder = el("div", { class: "plot-area", role: "slider", tabindex: 0, "aria-label": `${said}, over ${data.xlabel}`, "aria-valuemin": 0 });
      const tip = el("div", { class: "tip", hidden: "" });
      const box = el("div", { class: "panel" });
      if (title) box.append(el("p", { class: "title" }, title));
      box.append(holder);
      let plot, means, stops, places, at = -1;

      const draw = () => {
        const visible = lines.filter((line) => !hidden.has(line.method) && (!line.choice || line.choice === chosen));
        means = visible.filter((line) => !line.image);
        const drawn = images ? visible : means;
        const pool = drawn.length ? drawn : lines;
        const xs = pool.flatMap((line) => line.x);
        const ys = pool.flatMap((line) => [...line.y, ...(line.low || []), ...(line.high || [])]).filter((v) => v !== null);
        const span = (values, margin) => {
          const [low, high] = [Math.min(...values), Math.max(...values)];
          const room = margin * (high - low || Math.abs(high) || 1);
          return [low - room, high + room];
        };
        const x = data.log ? [Math.min(...xs) / 1.1, Math.max(...xs) * 1.1] : span(xs, 0.02);
        plot = axes({ width: Math.max(240, holder.clientWidth), height: grid.classList.contains("single") ? 380 : 270, x, y: span(ys, 0.04), xlabel: data.xlabel, ylabel: data.ylabel, log: data.log });
        places = { x: decimals(x[1] - x[0]), y: decimals(Math.max(...ys) - Math.min(...ys)) };
        for (const line of drawn) {
          const { colour, dash } = looks.get(line.method);
          if (line.low) {
            const back = path([...line.x].reverse(), [...line.low].reverse(), plot).replaceAll("M", "L");
            plot.area.append(svg("path", { class: "band", fill: colour, d: `${path(line.x, line.high, plot)}${back}Z` }));
          }
          const width = line.image ? 0.7 : 2.2;
          plot.area.append(svg("path", { class: line.image ? "image" : "mean", d: path(line.x, line.y, plot), stroke: colour, "stroke-width": width, "stroke-dasharray": line.image ? null : dash.map((n) => n * width).join(" ") }));
          if (line.x.length <= 12 && !line.image)
            line.x.forEach((value, i) => plot.area.append(svg("circle", { cx: plot.x(value), cy: plot.y(line.y[i]), r: 3.2, fill: colour })));
        }
        plot.cursor = plot.area.appendChild(svg("g", { class: "cursor" }));
        holder.replaceChildren(plot.node, tip);
        // Lines over the same values of x are read off together; others point by point.
        const shared = means.length > 0 && means.every((line) => line.x.length === means[0].x.length && line.x.every((v, i) => v === means[0].x[i]));
        const points = means.flatMap((line) => line.x.map((value, i) => ({ x: value, of: [[line, i]] })));
        stops = shared ? means[0].x.map((value, i) => ({ x: value, of: means.map((line) => [line, i]) })) : points.sort((a, b) => a.x - b.x);
        holder.setAttribute("aria-valuemax", Math.max(0, stops.length - 1));
        at = Math.min(at, stops.length - 1);
        if (at >= 0 && !tip.hidden) read(at);
        else holder.setAttribute("aria-valuenow", Math.max(0, at));
      };

      const text = (line, i) => {
        const value = number(line.y[i], places.y);
        const ends = line.low && line.low[i] !== null ? ` [${number(line.low[i], places.y)}, ${number(line.high[i], places.y)}]` : "";
        return value + ends;
      };
      const read = (index) => {
        at = index;
        const stop = stops[at];
        const head = `${data.xlabel.replace(/ \(.*\)/, "")} ${number(stop.x, Number.isInteger(stop.x) ? 0 : places.x)}`;
        const entries = stop.of.filter(([line, i]) => line.y[i] !== null).sort(([a, i], [b, j]) => b.y[j] - a.y[i]);
        tip.replaceChildren(el("strong", {}, head), ...entries.map(([line, i]) => {
          const { colour, dash } = looks.get(line.method);
          return el("div", {}, swatch(colour, dash), el("span", {}, line.method), el("b", {}, text(line, i)));
        }));
        tip.hidden = false;
        const left = plot.x(stop.x);
        const room = holder.clientWidth - tip.offsetWidth;
        const beside = left < holder.clientWidth / 2 ? left + 12 : left - 12 - tip.offsetWidth;
        tip.style.left = `${Math.max(0, Math.min(room, beside))}px`;
        tip.style.top = "14px";
        plot.cursor.replaceChildren(svg("line", { x1: left, x2: left, y1: plot.top, y2: plot.bottom }),
          ...entries.map(([line, i]) => svg("circle", { cx: left, cy: plot.y(line.y[i]), r: 4.5, fill: looks.get(line.method).colour })));
        holder.setAttribute("aria-valuenow", at);
        holder.setAttribute("aria-valuetext", `${head}: ${entries.map(([line, i]) => `${line.method} ${text(line, i)}`).join("; ")}`);
      };
      const leave = () => {
        tip.hidden = true;
        plot.cursor.replaceChildren();
      };
      holder.addEventListener("pointermove", (event) => {
        const place = plot.node.getBoundingClientRect();
        const [px, py] = [event.clientX - place.left, event.clientY - place.top];
        let best = Infinity;
        let nearest = -1;
        stops.forEach((stop, n) => {
          const [line, i] = stop.of[0];
          const far = Math.hypot(plot.x(stop.x) - px, stop.of.length > 1 ? 0 : plot.y(line.y[i]) - py);
          if (far < best) [best, nearest] = [far, n];
        });
        if (nearest >= 0) read(nearest);
      });
      holder.addEventListener("pointerleave", () => document.activeElement !== holder && leave());
      holder.addEventListener("focus", () => stops.length && holder.matches(":focus-visible") && read(Math.max(0, at < 0 ? stops.length - 1 : at)));
      holder.addEventListener("blur", leave);
      holder.addEventListener("keydown", (event) => {
        const last = stops.length - 1;
        const page = Math.max(1, Math.round(stops.length / 10));
        const next = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - page, PageUp: at + page, Home: 0, End: last }[event.key];
        if (event.key === "Escape") leave();
        if (next === undefined || last < 0) return;
        event.preventDefault();
        read(Math.min(last, Math.max(0, next)));
      });
      grid.append(box);
      return { draw, holder };
    };

    const panels = data.panels.map(makePanel);
    panels.forEach(({ draw, holder }) => {
      draw();
      resized(holder, draw);
    });
  };
  if (typeof document !== "undefined") document.addEventListener("DOMContentLoaded", () => window.moving.start("lines", build));
})();
