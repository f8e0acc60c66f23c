
"use strict";
// What map and panel share: elements, shapes, and the way from numbers to places on the screen.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and text; text is only ever text, never markup. */
function make(tag, attributes = {}, text = null, parent = null) {
  const drawn = ["svg", "g", "path", "circle", "line", "rect", "polyline", "text", "title"].includes(tag);
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

/** The outline of a marker around 0, 0, by matplotlib's letter for it. */
function outline(marker, r) {
  const ring = (count, turn, size) => Array.from({ length: count }, (_, i) => {
    const angle = turn + (2 * Math.PI * i) / count;
    return `${i ? "L" : "M"}${(size * Math.cos(angle)).toFixed(2)} ${(size * Math.sin(angle)).toFixed(2)}`;
  }).join("") + "Z";
  const up = -Math.PI / 2;
  switch (marker) {
    case "s": return ring(4, Math.PI / 4, r * 1.25);
    case "^": return ring(3, up, r * 1.3);
    case "v": return ring(3, -up, r * 1.3);
    case "D": return ring(4, 0, r * 1.25);
    case "p": return ring(5, up, r * 1.15);
    case "X": {
      const a = r * 0.5, b = r * 1.1;
      return `M0 ${-a}L${b - a} ${-b}L${b} ${-b + a}L${a} 0L${b} ${b - a}L${b - a} ${b}L0 ${a}L${a - b} ${b}L${-b} ${b - a}L${-a} 0L${-b} ${a - b}L${a - b} ${-b}Z`;
    }
    default: return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  }
}

/** A small picture of a style, for legends and buttons. */
function swatch(style) {
  const svg = make("svg", { viewBox: "-8 -8 16 16", class: "swatch", "aria-hidden": "true" });
  make("path", { d: outline(style.marker, 5.5), fill: style.colour }, null, svg);
  return svg;
}

/** A number as people read it. */
function told(value, digits = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

/** A few round numbers between two. */
function rounds(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) found.push(Number((i * step).toPrecision(6)));
  return found;
}

/** An svg with axes around these points, one unit being as long on both; `at` places a point. */
function frame(box, points, labels, alt, least = 240) {
  const width = Math.max(least, box.clientWidth), height = Math.round(Math.min(560, Math.max(250, width * 0.72)));
  const inner = { left: 46, right: width - 14, top: 12, bottom: height - 40 };
  const range = [0, 1].map((axis) => {
    const values = points.map((p) => p[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const size = Math.max((range[0][1] - range[0][0]) / (inner.right - inner.left), (range[1][1] - range[1][0]) / (inner.bottom - inner.top)) * 1.16 || 0.01;
  const middle = range.map(([low, high]) => (low + high) / 2);
  const centre = [(inner.left + inner.right) / 2, (inner.top + inner.bottom) / 2];
  const at = ([x, y]) => [centre[0] + (x - middle[0]) / size, centre[1] - (y - middle[1]) / size];
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": alt });
  const back = ([px, py]) => [middle[0] + (px - centre[0]) * size, middle[1] - (py - centre[1]) * size];
  const [x0, y0] = back([inner.left, inner.bottom]), [x1, y1] = back([inner.right, inner.top]);
  for (const x of rounds(x0, x1, width / 90)) {
    const [px] = at([x, 0]);
    make("line", { class: "grid", x1: px, x2: px, y1: inner.top, y2: inner.bottom }, null, svg);
    make("text", { x: px, y: inner.bottom + 15, "text-anchor": "middle" }, String(x), svg);
  }
  for (const y of rounds(y0, y1, height / 80)) {
    const [, py] = at([0, y]);
    make("line", { class: "grid", x1: inner.left, x2: inner.right, y1: py, y2: py }, null, svg);
    make("text", { x: inner.left - 6, y: py + 4, "text-anchor": "end" }, String(y), svg);
  }
  make("path", { class: "axis", d: `M${inner.left} ${inner.top}V${inner.bottom}H${inner.right}` }, null, svg);
  make("text", { x: centre[0], y: height - 6, "text-anchor": "middle" }, labels[0], svg);
  make("text", { transform: `translate(12 ${centre[1]}) rotate(-90)`, "text-anchor": "middle" }, labels[1], svg);
  box.replaceChildren(svg);
  return { svg, at, inner };
}

/** A line through points that are already placed. */
function line(points, attributes, parent) {
  const d = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  return make("path", { class: "path", d, ...attributes }, null, parent);
}

/** What an axis is called, with its share of the variance. */
function axisName(name, number, share) {
  return share === undefined || share === null ? `${name}${number}` : `${name}${number} (${(100 * share).toFixed(0)} % of the variance)`;
}
