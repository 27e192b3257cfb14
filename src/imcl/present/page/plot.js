// Draws a chart as SVG: axes, rules, intervals, lines and points. It knows nothing of methods.
//
// A mark is { kind, at, look }: `at` lists points [x, y], in which null means the chart's edge, and
// `look` is a number that gives colour, shape and dash, or a class that gives the colour alone. A
// point may have a text, for the line below the chart and for screen readers, and a function `open`
// for whoever clicks it. A mark that is `apart` does not widen the chart: its ends are cut off.

const NS = "http://www.w3.org/2000/svg", SIZE = 13, ROW = 26;
const COLOURS = 7, RADIUS = 5;
const SHAPES = [ // of radius 1; all of about the same area
  "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0", "M-.9-.9H.9V.9H-.9Z", "M0-1.3L1.1 0L0 1.3L-1.1 0Z",
  "M0-1.2L1.2 1H-1.2Z", "M0 1.2L1.2-1H-1.2Z", "M-.4-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
  "M-1.1-.7L-.7-1.1L0-.4L.7-1.1L1.1-.7L.4 0L1.1.7L.7 1.1L0 .4L-.7 1.1L-1.1.7L-.4 0Z",
];
const classes = (kind, look) =>
  typeof look === "string" ? `${kind} ${look}` : `${kind} c${look % COLOURS} d${Math.floor(look / COLOURS) % 3}`;

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
const pen = document.createElement("canvas").getContext("2d");
function breadth(text) {
  pen.font = `${SIZE}px system-ui, sans-serif`;
  return pen.measureText(text).width;
}
// The lines of a text that are at most so wide.
function wrapped(text, width) {
  const lines = [""];
  for (const word of text.replaceAll(" %", "\u00a0%").split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (breadth(longer) <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
// Round numbers between two others, about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) {
    found.push(Number((at * step).toPrecision(12)));
  }
  return found;
}
function extent(values, { domain, within = [-Infinity, Infinity] }) {
  if (domain) return domain;
  const low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low) * 0.06 || 1;
  return [Math.max(low - pad, within[0]), Math.min(high + pad, within[1])];
}
const plain = (value) => value.toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−");

function shape(look, x, y, radius = RADIUS) {
  return draw("path", { d: SHAPES[typeof look === "string" ? 0 : look % SHAPES.length], transform: `translate(${x} ${y}) scale(${radius})` });
}
const KINDS = {
  band: (places, mark) => draw("path", { class: classes("band", mark.look), d: `M${places.join("L")}Z` }),
  line: (places, mark) => draw("path", { class: classes("line", mark.look), d: `M${places.join("L")}` }),
  rule: (places) => draw("path", { class: "rule", d: `M${places.join("L")}` }),
  bar: (places, mark) => draw("path", { class: classes("bar-line", mark.look), d: `M${places.join("L")}` }),
  seed: ([[x, y]], mark) => draw("path", { class: classes("seed", mark.look), d: `M${x} ${y - 4}V${y + 4}` }),
  claimed: ([[x, y]]) => draw("path", { class: "claimed", d: `M${x} ${y - 10}V${y + 10}` }),
  point: ([[x, y]], mark) => {
    const button = draw("g", {
      class: `${classes("point", mark.look)}${mark.hollow ? " hollow" : ""}`,
      ...(mark.open && { role: "button", tabindex: -1 }),
      ...(mark.open && { "aria-label": mark.text }),
    }, draw("circle", { class: "reach", cx: x, cy: y, r: 12 }), shape(mark.look, x, y, mark.radius));
    button.dataset.text = mark.text ?? "";
    if (mark.open) button.addEventListener("click", mark.open);
    return button;
  },
};

// `rows` are the names of an axis y without numbers, each { text, head, end }: a head spans the
// chart, `end` is written at the right.
function plot(width, { label, height = 300, x, y = {}, rows, marks }) {
  const ends = rows && width > 480 && rows.some((row) => row.end);
  const right = width - (ends ? Math.max(...rows.map((row) => breadth(row.end ?? ""))) + 14 : 12);
  const names = rows?.filter((row) => !row.head).map((row) => breadth(row.text)) ?? [];
  const left = rows ? Math.min(Math.max(...names, 40) + 12, 0.5 * width) : 52;
  const top = 8, under = 44, places = [];
  if (rows) {
    height = top;
    for (const row of rows) {
      row.lines = row.head ? wrapped(row.text, 0.82 * width) : [row.text]; // heads are bold
      const high = row.head ? 10 + 18 * row.lines.length : ROW;
      places.push(height + (row.head ? 20 : high / 2));
      height += high;
    }
    height += under;
  }
  const bottom = height - under;
  const flat = marks.filter((mark) => !mark.apart).flatMap((mark) => mark.at);
  const [x0, x1] = extent(flat.map((at) => at[0]).filter((v) => v !== null), x);
  const [y0, y1] = rows ? [] : extent(flat.map((at) => at[1]).filter((v) => v !== null), y);
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  const X = (v) => Number(within(left + ((v - x0) / (x1 - x0)) * (right - left), left, right).toFixed(2));
  const Y = (v) => rows ? places[v] : Number(within(bottom - ((v - y0) / (y1 - y0)) * (bottom - top), top, bottom).toFixed(2));

  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  const text = (words, attributes) => draw("text", attributes, words);
  for (const at of ticks(x0, x1, (right - left) / 60)) {
    picture.append(draw("path", { class: "grid", d: `M${X(at)} ${top}V${bottom}` }),
      text(plain(at), { x: X(at), y: bottom + 18, "text-anchor": "middle" }));
  }
  picture.append(text(x.title, { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }));
  if (!rows) {
    for (const at of ticks(y0, y1, (bottom - top) / 45)) {
      picture.append(draw("path", { class: "grid", d: `M${left} ${Y(at)}H${right}` }),
        text(plain(at), { x: left - 8, y: Y(at) + 4, "text-anchor": "end" }));
    }
    const middle = (top + bottom) / 2;
    picture.append(text(y.title, { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }));
  }
  for (const mark of marks) {
    picture.append(KINDS[mark.kind](mark.at.map(([h, v], index) => [
      h === null ? (index ? right : left) : X(h), v === null ? (index ? top : bottom) : Y(v)]), mark));
  }
  // The names of rows stand above the rules.
  rows?.forEach((row, index) => {
    row.lines.forEach((line, number) => picture.append(text(line, row.head
      ? { x: 0, y: places[index] + 18 * number, class: "head" }
      : { x: left - 10, y: places[index] + 4, "text-anchor": "end" })));
    if (ends && row.end) picture.append(text(row.end, { x: width, y: places[index] + 4, "text-anchor": "end" }));
  });
  // One stop of the tab key for all points; the arrows go from one to the next.
  const points = [...picture.querySelectorAll("[role=button]")];
  points[0]?.setAttribute("tabindex", 0);
  picture.addEventListener("keydown", (event) => {
    const index = points.indexOf(event.target), step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (index >= 0 && step) {
      const next = points[(index + step + points.length) % points.length];
      event.target.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
      event.preventDefault();
    } else if (index >= 0 && (event.key === "Enter" || event.key === " ")) {
      event.target.dispatchEvent(new MouseEvent("click"));
      event.preventDefault();
    }
  });
  return picture;
}

// What a legend shows of a look.
function sample(look, { hollow = false, line = true } = {}) {
  return draw("svg", { width: 30, height: 14, "aria-hidden": "true" },
    ...(line ? [draw("path", { class: classes("line", look), d: "M1 7H29" })] : []),
    draw("g", { class: `${classes("point", look)}${hollow ? " hollow" : ""}` }, shape(look, 15, 7)));
}
