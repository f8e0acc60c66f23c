
// What the chosen network goes through: its numbers, its trajectories beside the original's, its attractor.

const NEGATIVE = "#0072B2", MIDDLE = "#9a9a9a", POSITIVE = "#D55E00";

function numbersOf(run, index) {
  const f = run.fidelity[index];
  if (!f) return [];
  return [
    ["agreement", told(f.agreement)], ["variance explained", told(f.variance_explained)],
    ["accuracy", f.accuracy === undefined ? "–" : `${told(f.accuracy)} (original ${told(f.original_accuracy)})`],
  ].filter(([, value]) => value !== "–");
}

function showPanel(data, run, chosen) {
  const panel = document.getElementById("panel");
  panel.replaceChildren();
  const title = make("h3", {}, null, panel);
  if (chosen.place) {
    title.append(chosen.place.name);
    make("p", { class: "note" }, "A point of the map that is no member: the network that the meta-model makes there.", panel);
    showAttractor(run, chosen.place.attractor);
    return;
  }
  const member = data.members[chosen.index];
  title.append(swatch(data.styles.find((s) => s.name === member.group)), member.name);
  const list = make("dl", {}, null, panel);
  const about = [["group", member.group], ["task", member.task], ...(member.epoch === null ? [] : [["epoch", String(member.epoch)]])];
  for (const [name, value] of [...about, ...numbersOf(run, chosen.index)]) {
    make("dt", {}, name, list);
    make("dd", {}, value, list);
  }
  showCourses(panel, data, run, chosen.index);
  showAttractor(run, run.attractors[chosen.index]);
}

function showCourses(panel, data, run, index) {
  make("h4", {}, run.images ? "Where items end" : "Trajectories", panel);
  if (!run.courses) {
    make("p", { class: "note", id: "no-courses" }, `Not shown: ${run.missing}. The report was made without them.`, panel);
    return;
  }
  const box = make("div", { class: "canvas" }, null, panel), courses = run.courses[index];
  const every = [...run.courses.flat().flatMap((c) => [...c.emulator, ...c.original]), ...courses.flatMap((c) => c.ends.flat())];
  const labels = [1, 2].map((n) => axisName("state PC", n, run.shares_of_states[n - 1]));
  const alt = `${data.members[index].name}: the emulator's states beside the original's on ${run.items} held-out items`;
  const { svg, at } = frame(box, every, labels, alt);
  svg.setAttribute("role", "img");
  const group = make("g", { id: "courses", "data-member": index }, null, svg);
  const used = courses.map((course) => data.classes.find((s) => s.name === course.label));
  courses.forEach((course, i) => {
    const colour = used[i].colour;
    for (const [emulator, original] of course.ends) {
      line([at(emulator), at(original)], { stroke: colour, "stroke-width": 0.8, opacity: 0.35 }, group);
      const [ex, ey] = at(emulator), [ox, oy] = at(original);
      make("path", { d: outline(used[i].marker, 2.6), transform: `translate(${ex} ${ey})`, fill: colour, opacity: 0.55 }, null, group);
      make("path", { d: outline(used[i].marker, 2.6), transform: `translate(${ox} ${oy})`, fill: "none", stroke: colour, opacity: 0.7 }, null, group);
    }
  });
  courses.forEach((course, i) => {
    if (course.emulator.length < 2) return;
    line(course.original.map(at), { stroke: used[i].colour, "stroke-width": 1.8, "stroke-dasharray": "5 4", class: "path original" }, group);
    line(course.emulator.map(at), { stroke: used[i].colour, "stroke-width": 2.4, class: "path emulator" }, group);
    const [x, y] = at(course.emulator[0]);
    make("circle", { class: "start", cx: x, cy: y, r: 3 }, null, group);
  });
  const legend = make("ul", { class: "legend" }, null, panel);
  used.forEach((style) => make("li", {}, null, legend).append(swatch(style), style.name));
  const lines = run.images ? "" : "Lines: mean over the items of a class, from their first word to their last; solid the emulator, dashed the original; a dot where they begin. ";
  const dots = `${run.images ? "Marks: mean over the positions of the last stage" : "Small marks: where some items end"}; filled the emulator, hollow the original. `;
  const plane = `The plane is that of all emulators' states on ${run.items} validation items; both are brought into it through V, inverted.`;
  make("p", { class: "note" }, lines + dots + plane, panel);
}

function showAttractor(run, attractor) {
  const panel = document.getElementById("rest");
  panel.replaceChildren();
  panel.hidden = !attractor;
  if (!attractor) return;
  make("h4", {}, `Attractor: ${attractor.name}`, panel);
  if (!attractor.fixed.length) {
    make("p", { class: "note" }, "No fixed point was found within the tolerance.", panel);
    return;
  }
  const every = [...Object.values(run.attractors), ...run.places.map((p) => p.attractor)];
  const box = make("div", { class: "canvas" }, null, panel);
  const { svg, at } = frame(box, every.flatMap((a) => [...a.fixed, ...a.visited]), ["axis 1 of the states", "axis 2"], `The fixed points of ${attractor.name}`);
  svg.setAttribute("role", "img");
  const group = make("g", { id: "attractor" }, null, svg);
  for (const [x, y] of attractor.visited.map(at)) make("circle", { cx: x, cy: y, r: 1.8, fill: MIDDLE, opacity: 0.45 }, null, group);
  const most = Math.max(...every.flatMap((a) => a.logits.map(Math.abs)), 1e-9);
  attractor.fixed.forEach((point, i) => {
    const [x, y] = at(point), share = attractor.logits[i] / most;
    const colour = share < 0 ? NEGATIVE : POSITIVE;
    make("circle", { cx: x, cy: y, r: 3.6, fill: colour, "fill-opacity": 0.25 + 0.75 * Math.abs(share), stroke: colour, "stroke-width": 0.8 }, null, group);
  });
  const told_ = [`${(100 * attractor.converged).toFixed(0)} % of the searches converged`];
  if (attractor.dimension !== undefined) told_.push(`dimension ${told(attractor.dimension, 2)}`, `length ${told(attractor.length, 1)}`);
  make("p", { class: "note" }, `Approximate fixed points (blue: negative logit, orange: positive; the stronger, the fuller) and, grey, states on the way. ${told_.join(", ")}.`, panel);
}
