
// The map: hover or focus tells a network's numbers, choosing it shows what it goes through.

function startMap(data) {
  const state = { run: 0, chosen: { index: 0 }, hidden: new Set() };
  const box = document.querySelector("#plane .canvas"), tooltip = document.getElementById("tooltip");
  document.getElementById("explorer").hidden = false;
  const styleOf = (name) => data.styles.find((style) => style.name === name);

  function tell(node, index, place) {
    tooltip.replaceChildren();
    make("strong", {}, place ? place.name : data.members[index].name, tooltip);
    if (place) make("div", {}, "no member; choose it for its attractor", tooltip);
    else {
      make("div", {}, `group ${data.members[index].group}`, tooltip);
      for (const [name, value] of numbersOf(data.runs[state.run], index)) make("div", {}, `${name} ${value}`, tooltip);
    }
    tooltip.hidden = false;
    const mark = node.getBoundingClientRect(), own = tooltip.getBoundingClientRect();
    const wanted = mark.left + mark.width / 2 - own.width / 2;
    const left = Math.max(8, Math.min(wanted, document.documentElement.clientWidth - own.width - 8));
    const above = mark.top - own.height - 6;
    tooltip.style.left = `${left + window.scrollX}px`;
    tooltip.style.top = `${(above < 4 ? mark.bottom + 6 : above) + window.scrollY}px`;
  }
  const hush = () => { tooltip.hidden = true; };

  function choose(chosen) {
    state.chosen = chosen;
    for (const node of box.querySelectorAll(".point")) {
      const mine = chosen.place ? node.dataset.place === chosen.place.name : node.dataset.member === String(chosen.index);
      node.classList.toggle("chosen", mine);
      node.setAttribute("aria-pressed", String(mine));
      node.setAttribute("tabindex", mine ? "0" : "-1");
    }
    showPanel(data, data.runs[state.run], chosen);
  }

  function point(svg, at, style, chosen, label, attributes, opacity) {
    const [x, y] = at;
    const node = make("g", { class: "point", role: "button", tabindex: "-1", "aria-label": label, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, ...attributes }, null, svg);
    make("circle", { r: 13, fill: "transparent" }, null, node);
    make("circle", { r: 11, class: "halo" }, null, node);
    make("path", { class: "mark", d: outline(style.marker, 6.5), fill: style.colour, "fill-opacity": opacity }, null, node);
    const show = () => tell(node, chosen.index, chosen.place);
    for (const event of ["pointerenter", "focus"]) node.addEventListener(event, show);
    for (const event of ["pointerleave", "blur"]) node.addEventListener(event, hush);
    node.addEventListener("click", () => { choose(chosen); show(); });
    node.addEventListener("keydown", (event) => walk(event, node, chosen));
  }

  function walk(event, node, chosen) {
    const nodes = [...box.querySelectorAll(".point:not(.dim)")], place = nodes.indexOf(node);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) nodes[(place + step + nodes.length) % nodes.length].focus();
    else if (event.key === "Enter" || event.key === " ") choose(chosen);
    else if (event.key === "Escape") hush();
    else return;
    event.preventDefault();
  }

  function draw() {
    const run = data.runs[state.run];
    const labels = [1, 2].map((n) => axisName(run.axis, n, run.shares[n - 1]));
    const every = [...run.points, ...run.places.map((p) => p.at)];
    const { svg, at, inner } = frame(box, every, labels, `Map of ${data.members.length} networks`, 300);
    for (const path of data.lines) {
      line(path.map((i) => at(run.points[i])), { stroke: styleOf(data.members[path[0]].group).colour, "stroke-width": 1, opacity: 0.4 }, svg);
    }
    const named = [...run.points.map((p, i) => [at(p), data.members[i].name]), ...run.places.map((p) => [at(p.at), p.name])];
    label(svg, named, inner);
    for (const place of run.places) {
      point(svg, at(place.at), { marker: "X", colour: "currentColor" }, { place }, `${place.name}, no member`, { class: "point place", "data-place": place.name }, 0.75);
    }
    const order = data.members.map((_, i) => i).sort((a, b) => run.points[a][0] - run.points[b][0]);
    for (const i of order) {
      const member = data.members[i], numbers = numbersOf(run, i).map(([name, value]) => `${name} ${value}`);
      const spoken = [member.name, `group ${member.group}`, ...numbers].join(", ");
      const opacity = data.opacity ? data.opacity[i] : 0.92;
      point(svg, at(run.points[i]), styleOf(member.group), { index: i }, spoken, { "data-member": i }, opacity);
    }
    dim();
    const place = state.chosen.place && run.places.find((p) => p.name === state.chosen.place.name);
    choose(place ? { place } : { index: state.chosen.index ?? 0 });
  }

  /** Names beside points, where there is room for them. */
  function label(svg, named, inner) {
    if (named.length > 60) return;
    const taken = named.map(([[x, y]]) => [x - 8, y - 8, x + 8, y + 8]);
    named.forEach(([[x, y], name]) => {
      const wide = 6 * name.length;
      for (const [dx, dy, anchor] of [[11, 4, "start"], [-11, 4, "end"], [0, -11, "middle"], [0, 19, "middle"]]) {
        const left = x + dx - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
        const own = [left, y + dy - 10, left + wide, y + dy + 2];
        if (own[0] < inner.left || own[2] > inner.right || own[1] < inner.top || own[3] > inner.bottom) continue;
        if (taken.some((t) => own[0] < t[2] && t[0] < own[2] && own[1] < t[3] && t[1] < own[3])) continue;
        taken.push(own);
        make("text", { class: "name", x: x + dx, y: y + dy, "text-anchor": anchor, "aria-hidden": "true" }, name, svg);
        return;
      }
    });
  }

  function dim() {
    for (const node of box.querySelectorAll("[data-member]")) {
      node.classList.toggle("dim", state.hidden.has(data.members[node.dataset.member].group));
    }
  }

  function controls() {
    const bar = document.getElementById("controls");
    if (data.runs.length > 1) {
      const choice = make("select", { id: "seed" });
      data.runs.forEach((run, i) => make("option", { value: i }, run.name, choice));
      choice.addEventListener("change", () => { state.run = Number(choice.value); caption(); draw(); });
      make("label", { for: "seed" }, "Map: ", bar);
      bar.append(choice);
    }
    for (const style of data.styles) {
      const button = make("button", { type: "button", "aria-pressed": "true" }, null, bar);
      button.append(swatch(style), style.name);
      button.addEventListener("click", () => {
        const shown = state.hidden.delete(style.name) || !state.hidden.add(style.name);
        button.setAttribute("aria-pressed", String(shown));
        dim();
      });
    }
  }

  function caption() {
    const run = data.runs[state.run], split = { test: "test", val: "validation" }[run.split];
    const words = [`θ of ${data.members.length} networks on the plane of its first two principal components${data.runs.length > 1 ? `, ${run.name}` : ""}.`];
    words.push(split ? `Numbers are of ${split} items.` : "Fidelity has not been measured.");
    if (run.places.length) words.push("Crosses are places without a member, where attractors were looked for.");
    if (data.opacity) words.push("Faint: early in training; lines join the epochs of one network.");
    document.querySelector("#plane figcaption").textContent = words.join(" ");
  }

  controls();
  caption();
  draw();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; hush(); draw(); }
  });
  for (const link of document.querySelectorAll("a[data-member]")) {
    link.addEventListener("click", () => choose({ index: Number(link.dataset.member) }));
  }
}

const source = document.getElementById("data");
if (source) startMap(JSON.parse(source.textContent));
