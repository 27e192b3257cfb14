// Sorts, filters, opens runs, and draws each chart when it comes into view. Needs no network.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const DATA = read("data"), SPECIFICATIONS = read("specifications");
const CELLS = DATA.cells;
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// Okabe and Ito's colours, which colour-blind readers can tell apart. For black the page's ink is used.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [10, 4], [1, 3]];

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
const unique = (values) => [...new Set(values)];
const settings = (key) => unique(CELLS.map((cell) => cell[key]));
const interval = ([mean, half]) => ({ mean, low: mean - (half ?? 0), high: mean + (half ?? 0) });
const percent = (estimate) => interval(estimate.map((value) => value === null ? null : 100 * value));
// The interval of a few seeds may exceed what accuracy can be.
const bounded = (e) => ({ ...e, low: Math.max(e.low, 0), high: Math.min(e.high, 100) });

// --- Results: sort and filter

const grid = $("#grid"), body = $("tbody", grid), lines = $$("tr", body);
const chosen = Object.fromEntries($$("#filters select").map((s) => [s.dataset.column, s]));
function filter() {
  const wanted = $("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const line of lines) {
    const cells = line.children;
    const name = [1, 2, 3, 4].map((column) => cells[column].textContent).join(" ").toLowerCase();
    const fits = wanted.every((word) => name.includes(word)) &&
      Object.entries(chosen).every(([c, s]) => !s.value || cells[c].textContent === s.value);
    line.hidden = !fits;
    count += fits;
  }
  $("#count").textContent = `${count} of ${lines.length} cells`;
}
$("#search").addEventListener("input", filter);
for (const select of Object.values(chosen)) select.addEventListener("change", filter);
$("#reset").addEventListener("click", () => {
  $("#search").value = "";
  for (const select of Object.values(chosen)) select.value = "";
  filter();
});
$$("thead .sort", grid).forEach((button, index) => button.addEventListener("click", () => {
  const heading = button.parentElement, column = index + 1;
  const up = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of $$("thead th[aria-sort]", grid)) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = (line) => line.children[column].dataset.value ?? line.children[column].textContent;
  const numeric = heading.classList.contains("number");
  const ordered = lines.map((line) => [line, value(line)]).sort(([, a], [, b]) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // gaps last, either way
    const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
    return up ? order : -order;
  });
  body.append(...ordered.map(([line]) => line));
}));

// --- The runs behind a number

function opened(places, rule) {
  const inside = $("#runs-body");
  inside.replaceChildren(...(rule ? [make("p", { class: "note" }, rule)] : []));
  for (const place of places.slice(0, 24)) {
    const cell = CELLS[place], where = cell.environments.map((index) => DATA.environments[index]);
    const head = ["seed", "accuracy", "oracle", "at epoch", "nll", "ece", "channels", "kernels", "weights (SHA-256)"];
    const rows = cell.runs.map((run) => [
      run.seed, `${(100 * run.accuracy).toFixed(2)} %`, `${(100 * run.oracle).toFixed(2)} %`,
      run.oracle_epoch, run.nll.toFixed(4), `${(100 * run.ece).toFixed(2)} %`,
      (1000 * run.channel_correlation).toFixed(2), (1000 * run.kernel_cosine).toFixed(2),
      run.weights.slice(0, 12)]);
    const line = (tag, values) => make("tr", {}, ...values.map((v, i) =>
      make(tag, i ? { class: "number" } : {}, String(v))));
    const facts = {
      record: cell.record.path, "SHA-256": cell.record.sha256,
      code: cell.code.map((code) =>
        `imcl ${code.version}, commit ${code.commit}${code.modified ? " with changes" : ""}`).join("; "),
      data: cell.data.dataset, labels: cell.data.noise ?? "clean",
      machine: where.map((each) =>
        Object.entries(each).map(([key, value]) => `${key} ${value}`).join(", ")).join("; "),
    };
    inside.append(
      make("h3", {}, cell.key),
      make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs" },
        make("table", {}, make("thead", {}, line("th", head)),
          make("tbody", {}, ...rows.map((row) => line("td", row))))),
      make("dl", {}, ...Object.entries(facts).flatMap(([key, value]) =>
        [make("dt", {}, key), make("dd", {}, make("code", {}, value))])),
      make("details", {}, make("summary", {}, "Configuration"),
        make("pre", {}, JSON.stringify(cell.config, null, 1))));
  }
  if (places.length > 24) inside.append(make("p", {}, `and ${places.length - 24} more cells`));
  $("#runs-title").textContent = places.length === 1
    ? `The ${CELLS[places[0]].runs.length} runs behind this number`
    : `The runs of ${places.length} cells behind this number`;
  $("#runs").showModal();
  inside.scrollTop = 0;
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.open");
  if (button) opened(button.dataset.cells.split(" ").map(Number), button.dataset.rule);
  if (event.target === $("#runs")) $("#runs").close(); // a click outside the dialog
});

// --- Charts

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const ink = colour("ink"), line = colour("line");
  return {
    background: null, font: "system-ui, sans-serif", view: { stroke: null },
    axis: { tickCount: 8, labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 12, symbolStrokeWidth: 2 },
    text: { color: ink }, rule: { color: ink },
    range: { category: [ink, ...COLOURS] }, scale: {},
    mark: { tooltip: { content: "encoding" } },
  };
}

// The chosen value of a chart's control, which is made at the first call and kept when it is redrawn.
function control(name, key, values) {
  const id = `${name}-${key}`;
  if (!document.getElementById(id)) {
    const select = make("select", { id }, ...values.map((value) => make("option", {}, value)));
    select.addEventListener("change", () => draw(name));
    const words = key[0].toUpperCase() + key.slice(1);
    $(`#${name}-controls`).append(make("label", {}, words, select));
  }
  return document.getElementById(id).value;
}
function tick(name, words) {
  const id = `${name}-tick`;
  if (!document.getElementById(id)) {
    const box = make("input", { id, type: "checkbox" });
    box.addEventListener("change", () => draw(name));
    $(`#${name}-controls`).append(make("label", { class: "tick" }, box, words));
  }
  return document.getElementById(id).checked;
}
// Leaves combinations out unless the reader asks for them: they crowd a chart and have their own one.
function few(name, cells) {
  return cells.some((cell) => cell.method.includes("+")) && !tick(name, "show combinations")
    ? cells.filter((cell) => !cell.method.includes("+")) : cells;
}
const picked = () => $$(".pick:checked", body).map((box) => CELLS[box.closest("tr").dataset.cell])
  .sort((a, b) => CELLS.indexOf(a) - CELLS.indexOf(b)).slice(0, 14);
// Names for the cells that are drawn: the method, and whatever else differs among them.
function labels(cells) {
  const keys = ["dataset", "noise", "backbone"].filter((key) => unique(cells.map((c) => c[key])).length > 1);
  return cells.map((cell) => [cell.method, ...keys.map((key) => cell[key])].join(", "));
}
const chartable = {
  curves() {
    const seeds = tick("curves", "each seed"), cells = picked(), names = labels(cells);
    return cells.flatMap((cell, index) => seeds
      ? cell.curves.flatMap((curve, run) => curve.map((value, at) => ({
        label: `${names[index]}, seed ${cell.runs[run].seed}`, epoch: cell.epochs[at],
        ...interval([value / 100, 0]) })))
      : cell.epochs.map((epoch, at) => ({ label: names[index], epoch,
        ...bounded(interval([cell.mean[at] / 100, cell.half[at] / 100])) })));
  },
  noise() {
    const dataset = control("noise", "dataset", settings("dataset"));
    const backbone = control("noise", "backbone", settings("backbone"));
    return few("noise", CELLS.filter((c) => c.dataset === dataset && c.backbone === backbone)).map((cell) => ({
      method: cell.method, rate: 100 * cell.rate, ...bounded(percent(cell.estimates.accuracy)) }));
  },
  cost() {
    const dataset = control("cost", "dataset", settings("dataset"));
    const noise = control("cost", "noise", settings("noise"));
    const measured = { "time of the runs": "time", "memory of the runs": "memory" };
    const benched = Object.fromEntries(DATA.benches.flatMap((bench, index) =>
      ["time", "memory", "macs"].map((what) => [`${what === "macs" ? "multiply-adds" : what}, bench on ${bench.device}`, [index, what]])));
    const name = control("cost", "cost", [...Object.keys(measured), ...Object.keys(benched)]);
    const here = few("cost", CELLS.filter((c) => c.dataset === dataset && c.noise === noise));
    return here.filter((cell) => cell.difference).flatMap((cell) => {
      let cost = measured[name] && cell.cost?.[measured[name]];
      if (benched[name]) {
        const [index, what] = benched[name], options = cell.config.ways, used = Object.keys(options);
        // The bench names a single way by its variant.
        const method = used.length === 1 && !cell.config.baseline ? `${used[0]}/${options[used[0]].variant}` : cell.method;
        cost = DATA.benches[index].rows.find((row) => row.backbone === cell.backbone && row.method === method)?.[`${what}_ratio`];
      }
      return cost ? [{ method: cell.method, backbone: cell.backbone, cost, ...percent(cell.difference) }] : [];
    });
  },
  combinations() {
    const dataset = control("combinations", "dataset", settings("dataset"));
    const noise = control("combinations", "noise", settings("noise"));
    const here = CELLS.filter((c) => c.dataset === dataset && c.noise === noise && c.difference);
    const names = Object.keys(DATA.combinations).filter((name) => here.some((c) => c.method === name));
    return {
      rows: names.flatMap((name) => here.filter((c) => c.method === name).map((cell) => ({
        combination: name, backbone: cell.backbone, ...percent(cell.difference) }))),
      member: names.flatMap((name) => DATA.ways.map((way) => ({
        combination: name, way, used: DATA.combinations[name].includes(way) }))),
    };
  },
  redundancy() {
    const [dataset, noise, backbone] = ["dataset", "noise", "backbone"].map((key) => control("redundancy", key, settings(key)));
    const here = few("redundancy", CELLS.filter((c) => c.dataset === dataset && c.noise === noise && c.backbone === backbone));
    const place = (cell) => ["channel_correlation", "kernel_cosine"].map((key) => 1000 * cell.estimates[key][0]);
    const base = here.find((cell) => cell.method === "base");
    return here.map((cell) => {
      const [channels, kernels] = place(cell), [channels0, kernels0] = place(base ?? cell);
      return { method: cell.method, channels, kernels, channels0, kernels0,
        role: cell === base ? "base (before)" : "with the method (after)" };
    });
  },
  calibration() {
    const cells = picked().filter((cell) => cell.calibration), names = labels(cells);
    return cells.flatMap((cell, index) => cell.calibration.map(([confidence, correct, count]) =>
      ({ label: names[index], confidence, correct, count })));
  },
  confusion() {
    const cells = CELLS.filter((cell) => cell.confusion);
    if (!cells.length) return [];
    const name = control("confusion", "cell", cells.map((cell) => cell.cell));
    return tiles(cells.find((cell) => cell.cell === name).confusion);
  },
  transition() {
    const names = Object.keys(DATA.noise);
    if (!names.length) return [];
    return tiles(DATA.noise[control("transition", "noise", names)]);
  },
};
const EMPTY = {
  curves: "No cell is ticked under Results.",
  calibration: "No cell that is ticked under Results has stored predictions; records of earlier versions have none.",
  confusion: "No record here has a confusion matrix: records of earlier versions, and with more than 20 classes, have none.",
  transition: "This study has no noisy labels.",
  combinations: "No combination of ways was trained together with base here.",
  cost: "No method was measured together with base here.",
};
function tiles(matrix) {
  return matrix.flatMap((row, index) => {
    const whole = row.reduce((a, b) => a + b, 0) || 1;
    return row.map((value, column) => ({ row: index, column, value, share: 100 * value / whole, small: matrix.length <= 10 }));
  });
}
const drawn = new Set();
async function draw(name) {
  drawn.add(name);
  const place = $(`#${name}-chart`), made = chartable[name]();
  const datasets = Array.isArray(made) ? { rows: made } : made;
  if (!datasets.rows.length) {
    place.replaceChildren(make("p", { class: "note" }, EMPTY[name] ?? "There is no cell with this setting."));
    return;
  }
  const spec = structuredClone(SPECIFICATIONS[name]);
  if (spec.hconcat) spec.hconcat[1].width = Math.min(760, Math.max(160, place.clientWidth - 190));
  // Explicit sizes keep the tiles square.
  if (name === "confusion" || name === "transition") spec.width = spec.height = Math.min(520, place.clientWidth - 110);
  for (const row of datasets.rows) row.form = row.role ?? row.label ?? (row.cost || row.combination ? row.backbone : row.method);
  spec.datasets = { ...datasets, zero: [{}] };
  const config = theme();
  config.legend.columns = Math.max(1, Math.floor((place.clientWidth - 60) / 220));
  if (datasets.rows[0].label || datasets.rows[0].method) config.range.category = [...config.range.category, ...COLOURS];
  await vegaEmbed(place, { ...spec, config: { ...spec.config, ...config, range: { ...config.range, dash: DASHES } } },
    { actions: false, renderer: "svg" });
}
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) { near.unobserve(target); draw(target.id); }
  }
}, { rootMargin: "300px" });

function pick(cells) {
  for (const line of lines) $(".pick", line).checked = cells.includes(CELLS[line.dataset.cell]);
}
body.addEventListener("change", (event) => {
  if (event.target.matches(".pick")) ["curves", "calibration"].filter((n) => drawn.has(n)).forEach(draw);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => drawn.forEach(draw), 200); });

pick(CELLS.filter((cell) => ["dataset", "noise", "backbone"].every((key) => cell[key] === CELLS[0][key])).slice(0, 7));
filter();
for (const name of Object.keys(chartable)) near.observe(document.getElementById(name));
document.documentElement.dataset.ready = "true";
