// What each chart shows of the chosen setting: its marks, the sentence that states its finding, and
// the rows of its CSV, which are the numbers of the summary.

const DATA = JSON.parse(document.getElementById("data").textContent);
const CELLS = DATA.cells, LOOKS = DATA.looks;
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// --- What is chosen, for all charts

const chosen = { ...DATA.start, methods: new Set(DATA.start.methods) };
const named = (key, value = chosen[key]) => DATA.names[key][value];
const title = (cell) => named("method", cell.method);
const where = (...keys) => (keys.length ? keys : ["dataset", "noise", "backbone"]).map((key) => named(key)).join(", ");
const among = (...keys) => CELLS.filter((cell) => keys.every((key) => cell[key] === chosen[key]));
const here = () => among("dataset", "noise", "backbone");
const picked = (cells) => cells.filter((cell) => chosen.methods.has(cell.method));

// --- Numbers in words

const signs = (text) => text.replace("-", "−");
const percent = (share, digits = 1) => `${signs((100 * share).toFixed(digits))} %`;
const points = ([mean, half]) => `${mean < 0 ? "" : "+"}${signs((100 * mean).toFixed(1))}${half === null ? "" : ` ± ${(100 * half).toFixed(1)}`}`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : word.endsWith("s") ? "es" : "s"}`;
const ends = ([mean, half]) => [mean - (half ?? 0), mean + (half ?? 0)];
const bounded = (values) => values.map((value) => Math.min(Math.max(value, 0), 100));
const times = (values, factor) => values.map((value) => value === null ? null : factor * value);
const legend = (cells, options) => cells.map((cell) => ({ look: LOOKS[cell.method], text: title(cell), ...options }));
const runs = (...cells) => () => opened(cells.map((cell) => CELLS.indexOf(cell)));
const nothing = (finding) => ({ finding, marks: [], csv: [] });
const NO_CELLS = () => nothing(`No method that is chosen has records on ${where()}.`);

// A field of a chart's own; redrawn when it changes.
function field(chart, key, options) {
  const id = `${chart}-${key}`, place = $(`#${chart}-controls`);
  if (!options.length) return undefined;
  const select = $(`#${id}`) ?? make("select", { id });
  const before = select.value;
  select.replaceChildren(...options.map((option) => make("option", {}, option)));
  select.value = options.includes(before) ? before : options[0];
  if (!select.isConnected) {
    select.addEventListener("change", () => show(chart));
    place.append(make("label", {}, key, select));
  }
  return select.value;
}
function tick(chart, key, words) {
  const id = `${chart}-${key}`;
  if (!$(`#${id}`)) {
    const box = make("input", { id, type: "checkbox" });
    box.addEventListener("change", () => show(chart));
    $(`#${chart}-controls`).append(make("label", { class: "tick" }, box, words));
  }
  return $(`#${id}`).checked;
}

const STATES = { reproduced: "holds", "not reproduced": "contradicted", partly: "short", "not tested": "undecided" };
const TOLD = { holds: "holds", contradicted: "contradicted", short: "smaller than claimed", undecided: "undecided" };

// The first picture and that of the costs: effects against their references, claim by claim.
function claims(title, reference, shown, finding) {
  const rows = [], marks = [{ kind: "rule", at: [[reference, null], [reference, null]] }];
  for (const row of shown) {
    if (rows.findLast((each) => each.head)?.text !== row.claim) rows.push({ head: true, text: row.claim });
    const place = rows.length, look = STATES[row.state] ?? row.state;
    const unit = row.unit === "%" ? " %" : "";
    const digits = row.unit === "times" ? 2 : 1, half = row.unit === "times" ? "" : ` ± ${(row.high - row.mean).toFixed(1)}`;
    const end = row.mean === null ? "" : `${signs(row.mean.toFixed(digits))}${half}${unit}`;
    rows.push({ text: row.label, end });
    if (row.claimed !== null) marks.push({ kind: "claimed", at: [[row.claimed, place]] });
    if (row.mean === null) continue;
    marks.push({ kind: "bar", at: [[row.low, place], [row.high, place]], look }, {
      kind: "point", at: [[row.mean, place]], look, hollow: row.size === "reduced",
      text: `${row.claim} ${row.label}: ${end} ${row.unit === "times" ? "times the reference" : "points"}, ${TOLD[look]}, ${row.size} size`,
    });
  }
  const looks = [...new Set(marks.filter((mark) => mark.look).map((mark) => mark.look))];
  return {
    finding, rows, marks, x: { title },
    legend: [
      ...looks.map((look) => ({ look, text: TOLD[look], line: true })),
      { look: "undecided", text: "full size", line: false },
      { look: "undecided", text: "reduced size", line: false, hollow: true },
      ...(shown.some((row) => row.claimed !== null) ? [{ claimed: true, text: "claimed" }] : []),
    ],
    csv: [["claim", "compared", "unit", "effect", "low", "high", "claimed", "size", "state"],
      ...shown.map((row) => [row.claim, row.label, row.unit, row.mean, row.low, row.high, row.claimed, row.size, row.state])],
  };
}

const CHARTS = {
  answer() {
    const shown = DATA.answer.filter((row) => row.unit !== "times"), tested = shown.filter((row) => row.mean !== null);
    const best = tested.reduce((a, b) => (b.mean > (a?.mean ?? -Infinity) ? b : a), null);
    return claims("gain over the reference", 0, shown, best
      ? `${tested.filter((row) => row.state === "holds").length} of ${plural(tested.length, "comparison")} hold. The largest gain is ${signs(best.mean.toFixed(1))}: ${best.label} (${best.size} size). “${best.claim}”`
      : "No claim about accuracy is tested yet.");
  },
  ratios() {
    const shown = DATA.answer.filter((row) => row.unit === "times");
    const low = shown.filter((row) => row.mean < 1).length;
    return claims("times the reference", 1, shown, shown.length
      ? `${low} of ${plural(shown.length, "cost")} are below the reference; they reach from ${Math.min(...shown.map((r) => r.mean)).toFixed(2)} to ${Math.max(...shown.map((r) => r.mean)).toFixed(2)} times.`
      : "No cost is measured yet.");
  },
  effects() {
    const cells = here().filter((cell) => cell.difference);
    if (!cells.length) return nothing(`No method was trained together with base on ${where()}.`);
    const best = cells.reduce((a, b) => (b.difference[0] > a.difference[0] ? b : a));
    const up = cells.filter((cell) => cell.difference[0] > 0).length, sure = cells.filter((cell) => cell.significant);
    const base = here().find((cell) => cell.method === "base");
    return {
      finding: `On ${where()}, ${title(best)} comes out highest: ${points(best.difference)} points. ${up} of ${plural(cells.length, "method")} are above base; significant: ${sure.map(title).join(", ") || "none"}.`,
      x: { title: "points of accuracy above base" },
      rows: cells.map((cell) => ({ text: title(cell), end: `${points(cell.difference)}${cell.significant ? " ★" : ""}` })),
      marks: [{ kind: "rule", at: [[0, null], [0, null]] }, ...cells.flatMap((cell, row) => {
        const look = LOOKS[cell.method], [, values] = cell.differences, [low, high] = times(ends(cell.difference), 100);
        return [
          // Two seeds give intervals so wide that they would hide everything else.
          { kind: "bar", at: [[low, row], [high, row]], look, apart: values.length < 3 },
          ...values.map((value) => ({ kind: "seed", at: [[100 * value, row]], look })),
          { kind: "point", at: [[100 * cell.difference[0], row]], look, open: runs(cell, base),
            text: `${title(cell)}: ${points(cell.difference)} points${cell.significant ? ", significant" : ""}` }];
      })],
      csv: [["method", "difference", "half_width", "significant", ...cells[0].differences[0].map((seed) => `seed ${seed}`)],
        ...cells.map((cell) => [cell.method, ...times(cell.difference, 100), cell.significant, ...times(cell.differences[1], 100)])],
    };
  },
  curves() {
    const cells = picked(here());
    if (!cells.length) return NO_CELLS();
    const seeds = tick("curves", "seeds", "each seed");
    const last = (cell) => cell.estimates.accuracy[0], best = cells.reduce((a, b) => (last(b) > last(a) ? b : a));
    const few = cells.length <= 4; // more intervals would hide each other
    const lost = cells.reduce((a, b) => (b.estimates.lost_since_best[0] > a.estimates.lost_since_best[0] ? b : a));
    return {
      finding: `On ${where()}, ${title(best)} ends highest, at ${percent(last(best))}. ${title(lost)} ends ${signs((100 * lost.estimates.lost_since_best[0]).toFixed(1))} points below its own best epoch, more than the others.`,
      x: { title: "epoch" }, y: { title: "accuracy (%)", within: [0, 100] }, legend: legend(cells),
      marks: cells.flatMap((cell) => {
        const look = LOOKS[cell.method], at = cell.epochs.map((epoch, index) => [epoch, 100 * cell.mean[index]]);
        const side = (sign) => cell.epochs.map((epoch, index) => [epoch, bounded([100 * (cell.mean[index] + sign * cell.half[index])])[0]]);
        const [epoch, accuracy] = at.at(-1);
        return [
          ...(seeds ? cell.curves.map((curve) => ({ kind: "line", look, at: cell.epochs.map((e, i) => [e, curve[i] / 100]) }))
            : [{ kind: "line", look, at }, few
              ? { kind: "band", look, at: [...side(-1), ...side(1).reverse()], apart: cell.runs.length < 3 }
              : { kind: "bar", look, at: [side(-1).at(-1), side(1).at(-1)], apart: cell.runs.length < 3 }]),
          { kind: "point", at: [[epoch, accuracy]], look, open: runs(cell), radius: 4,
            text: `${title(cell)}: ${percent(last(cell))} after epoch ${epoch}` }];
      }),
      csv: [["method", "epoch", "accuracy", "half_width"],
        ...cells.flatMap((cell) => cell.epochs.map((epoch, i) => [cell.method, epoch, ...times([cell.mean[i], cell.half[i]], 100)]))],
    };
  },
  noise() {
    const cells = picked(among("dataset", "backbone")), methods = [...new Set(cells.map((cell) => cell.method))];
    if (!cells.length) return NO_CELLS();
    const lines = methods.map((method) => cells.filter((cell) => cell.method === method).sort((a, b) => a.rate - b.rate));
    const told = ["base", "all"].map((method) => lines[methods.indexOf(method)]).filter(Boolean);
    const rate = cells.find((cell) => cell.noise === chosen.noise)?.rate;
    return {
      finding: `On ${where("dataset", "backbone")}: ${(told.length ? told : lines.slice(0, 2)).map((line) =>
        `${title(line[0])} has ${line.map((cell) => `${percent(cell.estimates.accuracy[0])} with ${named("noise", cell.noise)}`).join(", ")}`).join("; ")}.`,
      x: { title: "wrong training labels (%)" }, y: { title: "accuracy (%)", within: [0, 100] },
      legend: lines.map(([cell]) => ({ look: LOOKS[cell.method], text: title(cell) })),
      marks: [
        ...(rate === undefined ? [] : [{ kind: "rule", at: [[100 * rate, null], [100 * rate, null]] }]),
        ...lines.flatMap((line) => line.flatMap((cell, index) => {
          const look = LOOKS[cell.method], x = 100 * cell.rate, [low, high] = bounded(times(ends(cell.estimates.accuracy), 100));
          const y = (each) => 100 * each.estimates.accuracy[0];
          return [
            ...(index ? [{ kind: "line", look, at: [[100 * line[index - 1].rate, y(line[index - 1])], [x, y(cell)]] }] : []),
            { kind: "bar", at: [[x, low], [x, high]], look, apart: cell.runs.length < 3 },
            { kind: "point", at: [[x, y(cell)]], look, open: runs(cell),
              text: `${title(cell)}, ${named("noise", cell.noise)}: ${percent(cell.estimates.accuracy[0])}` }];
        }))],
      csv: [["method", "noise", "rate", "accuracy", "half_width"],
        ...lines.flat().map((cell) => [cell.method, cell.noise, 100 * cell.rate, ...times(cell.estimates.accuracy, 100)])],
    };
  },
  cost() {
    const measured = { "time of the runs": "time", "memory of the runs": "memory" };
    const benched = Object.fromEntries(DATA.benches.flatMap((bench, index) =>
      [["time", "time"], ["memory", "memory"], ["multiply-adds", "macs"]].map(([word, what]) => [`${word}, bench on ${bench.device}`, [index, what]])));
    const name = field("cost", "cost", [...Object.keys(measured), ...Object.keys(benched)]);
    const there = picked(here()).filter((cell) => cell.difference);
    const costs = there.map((cell) => [cell, cost(cell, measured[name], benched[name])]).filter(([, of]) => of);
    const left = there.filter((cell) => !costs.some(([each]) => each === cell)).map(title).join(", ");
    if (!costs.length) return nothing(`No method that is chosen was measured together with base on ${where()}.`);
    const [best, dear] = costs.reduce((a, b) => (b[0].difference[0] > a[0].difference[0] ? b : a));
    const [cheap, least] = costs.reduce((a, b) => (b[1] < a[1] ? b : a));
    const base = here().find((cell) => cell.method === "base");
    return {
      finding: `${title(best)} gains most, ${points(best.difference)} points, at ${dear.toFixed(2)} times the cost of base. ${title(cheap)} costs least: ${least.toFixed(2)} times, for ${points(cheap.difference)} points.${left && ` Not measured beside base: ${left}.`}`,
      x: { title: `${name.split(",")[0]}, times that of base` }, y: { title: "points above base" }, legend: legend(costs.map(([cell]) => cell), { line: false }),
      marks: [{ kind: "rule", at: [[null, 0], [null, 0]] }, ...costs.flatMap(([cell, of]) => {
        const look = LOOKS[cell.method], [low, high] = times(ends(cell.difference), 100);
        return [{ kind: "bar", at: [[of, low], [of, high]], look, apart: cell.runs.length < 3 },
          { kind: "point", at: [[of, 100 * cell.difference[0]]], look, open: runs(cell, base),
            text: `${title(cell)}: ${points(cell.difference)} points at ${of.toFixed(2)} times the cost` }];
      })],
      csv: [["method", "cost", "difference", "half_width"], ...costs.map(([cell, of]) => [cell.method, of, ...times(cell.difference, 100)])],
    };
  },
  redundancy() {
    const cells = picked(here());
    if (!cells.length) return NO_CELLS();
    const place = (cell) => ["channel_correlation", "kernel_cosine"].map((key) => 1000 * cell.estimates[key][0]);
    const base = here().find((cell) => cell.method === "base"), other = cells.find((cell) => cell.method === "all") ?? cells.at(-1);
    const told = (cell) => place(cell).map((value) => value.toFixed(1)).join(" and ");
    return {
      finding: base && other !== base
        ? `On ${where()}, the redundancy of channels and kernels (× 1000) is ${told(base)} for base, ${told(other)} for ${title(other)}.`
        : `On ${where()}, the redundancy of channels and kernels (× 1000) is ${told(other)} for ${title(other)}.`,
      x: { title: "correlation between channels × 1000" }, y: { title: "cosine between kernels × 1000" }, legend: legend(cells, { line: false }),
      marks: [
        ...(base ? cells.filter((cell) => cell !== base).map((cell) => ({ kind: "line", look: LOOKS[cell.method], at: [place(base), place(cell)] })) : []),
        ...cells.map((cell) => ({ kind: "point", at: [place(cell)], look: LOOKS[cell.method], open: runs(cell), text: `${title(cell)}: ${told(cell)}` }))],
      csv: [["method", "channels", "kernels"], ...cells.map((cell) => [cell.method, ...place(cell)])],
    };
  },
  calibration() {
    const cells = picked(here()).filter((cell) => cell.calibration);
    if (!cells.length) return nothing(`No record that is chosen here holds predictions; those of earlier versions have none.`);
    const most = Math.max(...cells.flatMap((cell) => cell.calibration.map(([, , count]) => count)));
    const ece = (cell) => cell.estimates.ece[0], order = [...cells].sort((a, b) => ece(a) - ece(b));
    return {
      finding: `On ${where()}, confidence is closest to accuracy with ${title(order[0])} (error ${percent(ece(order[0]))}) and furthest with ${title(order.at(-1))} (${percent(ece(order.at(-1)))}).`,
      x: { title: "mean confidence (%)", domain: [0, 100] }, y: { title: "right predictions (%)", domain: [0, 100] }, legend: legend(cells),
      marks: [{ kind: "rule", at: [[0, 0], [100, 100]] }, ...cells.flatMap((cell) => {
        const look = LOOKS[cell.method];
        return [{ kind: "line", look, at: cell.calibration.map(([x, y]) => [x, y]) },
          ...cell.calibration.map(([x, y, count], index) => ({
            kind: "point", at: [[x, y]], look, radius: 1.5 + 4 * Math.sqrt(count / most),
            ...(index === cell.calibration.length - 1 && { open: runs(cell) }),
            text: `${title(cell)}: of ${plural(count, "image")} with ${x.toFixed(0)} % confidence, ${y.toFixed(0)} % are right` }))];
      })],
      csv: [["method", "confidence", "correct", "count"], ...cells.flatMap((cell) => cell.calibration.map((bin) => [cell.method, ...bin]))],
    };
  },
  confusion() {
    const cells = here().filter((cell) => cell.confusion);
    if (!cells.length) return nothing("No record here holds a confusion matrix: those of earlier versions, and with more than 20 classes, have none.");
    const method = field("confusion", "method", cells.map(title));
    const { confusion } = cells.find((cell) => title(cell) === method), names = classNames(confusion.length);
    const [share, row, column] = worst(confusion);
    return { finding: `With ${method} on ${where()}, ${names[row]} is most often taken for ${names[column]}: ${percent(share)} of its images.`, ...matrix(confusion, names) };
  },
  transition() {
    const shares = DATA.noise[`${chosen.dataset} ${chosen.noise}`];
    if (!shares) return nothing(`${where("dataset")}: the labels that are chosen are clean.`);
    const names = classNames(shares.length), kept = shares.map((row, index) => row[index]);
    const [share, row, column] = worst(shares);
    return { finding: `With ${where("noise")}, each class keeps ${Math.min(...kept).toFixed(0)} to ${Math.max(...kept).toFixed(0)} % right labels. The most common wrong one: ${names[row]} labelled ${names[column]}, ${percent(share)}.`, ...matrix(shares, names) };
  },
};
// A cell's cost relative to base: of its runs, or as a bench measured its method.
function cost(cell, measured, benched) {
  if (measured) return cell.cost?.[measured];
  const [index, what] = benched, options = cell.config.ways, used = Object.keys(options);
  // The bench names a single way by its variant.
  const method = used.length === 1 && !cell.config.baseline ? `${used[0]}/${options[used[0]].variant}` : cell.method;
  return DATA.benches[index].rows.find((row) => row.backbone === cell.backbone && row.method === method)?.[`${what}_ratio`];
}
function classNames(count) {
  const names = DATA.classes[chosen.dataset];
  return names?.length === count ? names : [...Array(count).keys()].map(String);
}
// The largest share of a class that is off the diagonal, with its row and column.
function worst(matrix) {
  let found = [-1, 0, 0];
  matrix.forEach((row, index) => {
    const whole = row.reduce((a, b) => a + b, 0) || 1;
    row.forEach((value, column) => { if (column !== index && value / whole > found[0]) found = [value / whole, index, column]; });
  });
  return found;
}
// A matrix as a table of each row's shares in percent. With many classes, as a picture.
function matrix(values, names) {
  const csv = [["class", ...names], ...values.map((row, index) => [names[index], ...row])];
  const shares = values.map((row) => row.map((value) => value / (row.reduce((a, b) => a + b, 0) || 1)));
  if (values.length > 20) {
    const canvas = make("canvas", { width: values.length, height: values.length, role: "img", "aria-label": `${plural(values.length, "class")}; the darker, the larger the share` });
    const brush = canvas.getContext("2d");
    shares.forEach((row, y) => row.forEach((share, x) => {
      brush.fillStyle = `rgb(0 114 178 / ${Math.sqrt(share)})`;
      brush.fillRect(x, y, 1, 1);
    }));
    return { element: canvas, csv };
  }
  const table = make("table", { class: "matrix" },
    make("thead", {}, make("tr", {}, make("td"), ...names.map((name) => make("th", { scope: "col" }, make("span", {}, name))))),
    make("tbody", {}, ...shares.map((row, index) => make("tr", {}, make("th", { scope: "row" }, names[index]),
      ...row.map((share) => make("td", { class: `h${Math.min(5, Math.floor(6 * Math.sqrt(share)))}` }, (100 * share).toFixed(0)))))));
  return { element: table, csv };
}
