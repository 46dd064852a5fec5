/* Probabilities of rounding with sliders (companion.moving.probability_space). The functions are those of
   sgaplus.rounding, with which a test compares them. */
(() => {
  "use strict";
  const CLIP = 1e-5;
  const COSINE_CLIP = (2 / Math.PI) * Math.asin(Math.sqrt(1e-7));
  const TAU_FLOOR = 1e-4;
  const NOISE_CLIP = 2 ** -24;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const logit = (x) => Math.log(x) - Math.log1p(-x);
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const HALF_PI = Math.PI / 2;

  /* odds: log-odds of rounding up, d(x), and its slope; kernel: log f(u) of three classes, and its slope. */
  const METHODS = {
    atanh: {
      odds: (x) => Math.atanh(x) - Math.atanh(1 - x),
      slope: (x) => 1 / (1 - x * x) + 1 / (x * (2 - x)),
    },
    linear: {
      odds: logit,
      slope: (x) => 1 / (x * (1 - x)),
      kernel: (u) => Math.log1p(-u),
      fall: (u) => -1 / (1 - u),
    },
    cosine: {
      odds: (x) => 2 * Math.log(Math.tan(x * HALF_PI)),
      slope: (x) => Math.PI / (Math.sin(x * HALF_PI) * Math.cos(x * HALF_PI)),
      kernel: (u) => Math.log(Math.sin((1 - u) * HALF_PI)),
      fall: (u) => -HALF_PI / Math.tan((1 - u) * HALF_PI),
    },
    ssl: {
      odds: (x, a) => a * logit(x),
      slope: (x, a) => a / (x * (1 - x)),
      kernel: (u, a) => -softplus(a * logit(u)),
      fall: (u, a) => (-a * sigmoid(a * logit(u))) / (u * (1 - u)),
    },
  };
  const clip = (name) => (name === "cosine" ? COSINE_CLIP : CLIP);
  const softmax = (logits) => {
    const top = Math.max(...logits);
    const found = logits.map((value) => Math.exp(value - top));
    const sum = found.reduce((a, b) => a + b);
    return found.map((value) => value / sum);
  };

  /* The classes of v with their logits at temperature 1 and the logits' slopes. */
  const classes = ({ method, a, three, r, n }, v) => {
    const { odds, slope, kernel, fall } = METHODS[method];
    const edge = clip(method);
    if (!three) {
      const low = Math.floor(v);
      const x = clamp(v - low, edge, 1 - edge);
      return { integers: [low, low + 1], logits: [0, odds(x, a)], slopes: [0, x === v - low ? slope(x, a) : 0] };
    }
    const near = Math.floor(v + 0.5);
    const w = v - near;
    const distances = [1 + w, Math.abs(w), 1 - w].map((u) => r * u);
    const signs = [r, w < 0 ? -r : r, -r];
    const clipped = distances.map((u) => clamp(u, edge, 1 - edge));
    return {
      integers: [near - 1, near, near + 1],
      logits: clipped.map((u) => n * kernel(u, a)),
      slopes: clipped.map((u, i) => (u === distances[i] ? n * signs[i] * fall(u, a) : 0)),
    };
  };
  const probabilities = (spec, v, tau) => {
    const t = Math.max(tau, TAU_FLOOR);
    const { integers, logits, slopes } = classes(spec, v);
    const p = softmax(logits.map((value) => value / t));
    const mean = p.reduce((sum, value, i) => sum + value * slopes[i], 0);
    // The slope of the expected rounded value, which for two classes is that of p(⌈v⌉).
    const slope = p.reduce((sum, value, i) => sum + integers[i] * value * (slopes[i] - mean), 0) / t;
    return { integers, p, slope };
  };
  /* A relaxed rounding of v from uniform numbers, one for two classes and three for three. */
  const relax = (spec, v, tau, noise) => {
    const t = Math.max(tau, TAU_FLOOR);
    const { integers, logits } = classes(spec, v);
    if (!spec.three) return integers[0] + sigmoid(logits[1] / (t * t) + logit(noise[0]) / t);
    const gumbel = noise.map((u) => -Math.log(-Math.log(clamp(u, NOISE_CLIP, 1 - NOISE_CLIP))));
    const weights = softmax(logits.map((value, i) => value / (t * t) + gumbel[i] / t));
    return integers[1] + weights[2] - weights[0];
  };

  const build = (stage, data) => {
    const { el, svg, axes, path, number, slider, choice, swatch, resized } = window.moving;
    const spec = { ...data.presets[0].spec };
    let draws = [];
    const looks = Object.fromEntries(data.methods.map((method) => [method.name, method]));
    const keys = data.methods.map((method) => method.name);

    const set = (changes) => {
      Object.assign(spec, changes);
      if (spec.method === "atanh") spec.three = false;
      method.set(looks[spec.method].label);
      count.set(spec.three ? "three" : "two");
      for (const name of ["a", "tau", "r", "n", "v"]) sliders[name].set(spec[name]);
      sliders.a.input.disabled = spec.method !== "ssl";
      sliders.r.input.disabled = sliders.n.input.disabled = !spec.three;
      preset.set(data.presets.find(({ spec: other }) => Object.keys(other).every((key) => key === "v" || other[key] === spec[key]))?.name);
      roll();
    };
    const roll = () => {
      draws = Array.from({ length: 2000 }, () => relax(spec, spec.v, spec.tau, [Math.random(), Math.random(), Math.random()]));
      draw();
    };
    const preset = choice("Preset", data.presets.map(({ name }) => name), "", (name) => set(data.presets.find((p) => p.name === name).spec));
    const method = choice("Method", keys.map((key) => looks[key].label), "", (label) => set({ method: keys.find((key) => looks[key].label === label) }));
    const count = choice("Classes", ["two", "three"], "", (name) => set({ three: name === "three", ...(name === "three" && spec.method === "atanh" ? { method: "ssl" } : {}) }));
    const places = (digits) => (value) => number(value, digits);
    const sliders = {
      a: slider("a (SSL)", { min: 0.1, max: 10, step: 0.1, value: 1, say: places(1) }, (a) => set({ a })),
      tau: slider("temperature τ", { min: 0.05, max: 1, step: 0.05, value: 1, say: places(2) }, (tau) => set({ tau })),
      r: slider("stretch r", { min: 0.6, max: 1, step: 1 / 150, value: 1, say: places(3) }, (r) => set({ r })),
      n: slider("sharpness n", { min: 0.5, max: 4, step: 0.1, value: 1, say: places(1) }, (n) => set({ n })),
      v: slider("value v", { min: 0, max: 1, step: 0.01, value: 0.3, say: places(2) }, (v) => set({ v })),
    };
    method.node.querySelectorAll("button").forEach((button, i) => button.prepend(swatch(looks[keys[i]].colour, [])));
    const drawing = el("button", { type: "button", onclick: () => roll() }, "Draw 2000 roundings of v again");
    const said = el("p", { class: "readout", role: "status" });
    const panels = ["Probability of each integer", "Slope of the expected value", "2000 draws"].map((title) => {
      const area = el("div", { class: "plot-area" });
      return { title, area, node: el("div", { class: "panel" }, el("p", { class: "title" }, title), area) };
    });
    const key = el("p", { class: "hint" }, "Bold: the chosen method; solid for 1, dashed for 0, dotted for −1 and 2. Thin: two-class methods at the same τ, the probability of 1. The vertical line is v.");
    stage.append(
      el("div", { class: "controls" }, preset.node), el("div", { class: "controls" }, method.node, count.node),
      el("div", { class: "sliders" }, ...Object.values(sliders).map(({ node }) => node)),
      el("div", { class: "controls" }, drawing, said),
      el("div", { class: "panels trio" }, ...panels.map(({ node }) => node)), key);

    const grid = Array.from({ length: 401 }, (_, i) => clamp(i / 400, 1e-4, 1 - 1e-4));
    const line = (plot, ys, colour, width, dash) =>
      plot.area.append(svg("path", { d: path(grid, ys, plot), stroke: colour, "stroke-width": width, "stroke-dasharray": dash || null }));
    const draw = () => {
      const chosen = looks[spec.method].colour;
      const own = grid.map((x) => probabilities(spec, x, spec.tau));
      const others = keys.filter((key) => key !== spec.method || spec.three).map((key) => {
        const other = { method: key, a: spec.a, three: false };
        return { colour: looks[key].colour, values: grid.map((x) => probabilities(other, x, spec.tau)) };
      });
      const at = (plot) => plot.area.append(svg("line", { class: "mark", x1: plot.x(spec.v), x2: plot.x(spec.v), y1: plot.top, y2: plot.bottom }));
      const frame = ({ area }, y, x = [0, 1], xlabel = "v") => {
        const plot = axes({ width: Math.max(240, area.clientWidth), height: 250, x, y, xlabel, xticks: 5 });
        area.replaceChildren(plot.node);
        return plot;
      };
      let plot = frame(panels[0], [0, 1]);
      for (const { colour, values } of others) line(plot, values.map(({ p }) => p[1]), colour, 1);
      for (const integer of [-1, 2, 0, 1]) {
        const mass = own.map(({ integers, p }) => p[integers.indexOf(integer)] ?? 0);
        if (Math.max(...mass) > 1e-3) line(plot, mass, chosen, 3, { 1: "", 0: "8 4" }[integer] ?? "2 3");
      }
      at(plot);
      const top = Math.min(8, 1.1 * Math.max(2, ...own.map(({ slope }) => slope)));
      const cut = (values) => values.map(({ slope }) => (slope > top ? null : slope));
      plot = frame(panels[1], [0, top]);
      for (const { colour, values } of others) line(plot, cut(values), colour, 1);
      line(plot, cut(own), chosen, 3);
      at(plot);
      const [low, bins] = [-0.525, 42]; // of a twentieth each, integers in the middle of theirs
      const heights = new Array(bins).fill(0);
      for (const value of draws) heights[clamp(Math.floor((value - low) * 20), 0, bins - 1)] += 100 / draws.length;
      plot = frame(panels[2], [0, 1.15 * Math.max(10, ...heights)], [low, low + bins / 20], "relaxed value (share in %)");
      heights.forEach((height, i) => {
        if (height) plot.area.append(svg("rect", { x: plot.x(low + i / 20) + 0.5, width: Math.max(1, plot.x(0.05) - plot.x(0) - 1), y: plot.y(height), height: plot.bottom - plot.y(height), fill: chosen }));
      });
      const hard = Math.floor(spec.v + 0.5);
      plot.area.append(svg("line", { class: "hard", x1: plot.x(hard), x2: plot.x(hard), y1: plot.top, y2: plot.bottom }));
      plot.area.append(svg("text", { x: plot.x(hard) + (hard ? -5 : 5), y: plot.top + 12, "text-anchor": hard ? "end" : "start" }, `hard value ${hard}`));
      at(plot);
      const { integers, p, slope } = probabilities(spec, spec.v, spec.tau);
      const mean = draws.reduce((a, b) => a + b, 0) / draws.length;
      said.textContent = `v = ${number(spec.v, 2)}: ${integers.map((k, i) => `p(${number(k, 0)}) = ${number(p[i], 4)}`).join(", ")}; slope ${number(slope, 2)}. Mean of the draws ${number(mean, 3)}, standard deviation ${number(Math.sqrt(draws.reduce((a, b) => a + (b - mean) ** 2, 0) / draws.length), 3)}.`;
    };
    set({});
    resized(panels[0].area, draw);
  };

  const open = () => {
    window.moving.rounding = { probabilities, relax };
    window.moving.start("space", build);
  };
  document.addEventListener("DOMContentLoaded", open);
})();
