// The page: draws the charts, keeps what is chosen in the address, sorts and filters the results, and
// opens the runs behind a number. Needs no network.

// --- Charts

function show(name) {
  const { finding, marks, rows, x, y, legend: entries = [], element } = CHARTS[name]();
  const place = $(`#${name}-plot`), reading = $(`#${name}-reading`);
  $(`#${name}-finding`).textContent = finding;
  reading.textContent = "";
  const picture = element ?? (marks.length ? plot(place.clientWidth, { label: finding, x, y, rows, marks }) : "");
  const told = (event) => { reading.textContent = event.target.closest("[data-text]")?.dataset.text ?? ""; };
  if (picture && !element) {
    picture.addEventListener("pointerover", told);
    picture.addEventListener("focusin", told);
  }
  place.replaceChildren(...(entries.length ? [make("ul", { class: "legend" }, ...entries.map((entry) => make("li", {},
    entry.claimed ? draw("svg", { width: 10, height: 16, "aria-hidden": "true" }, draw("path", { class: "claimed", d: "M5 0V16" })) : sample(entry.look, entry),
    entry.text)))] : []), picture);
}
function showAll() {
  for (const name of Object.keys(CHARTS)) show(name);
  for (const way of $$(".way")) {
    const method = way.id.replace("way-", ""), cell = here().find((each) => each.method === method);
    const options = Object.entries(cell?.config.ways[method] ?? {}).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`);
    $(".options", way).textContent = options.length ? `Settings: ${options.join(", ")}.` : "";
    $(".gain", way).textContent = cell?.difference
      ? `On ${where()}: ${points(cell.difference)} points of accuracy over base${cell.significant ? ", significant" : ", not significant"}${cell.cost ? `; ${cell.cost.time.toFixed(2)} times its training time and ${cell.cost.memory.toFixed(2)} times its memory` : ""}.`
      : `Not trained alone on ${where()}.`;
  }
  $("#methods-count").textContent = `${chosen.methods.size} of ${Object.keys(LOOKS).length}`;
}

// --- What is chosen, and the address that keeps it

const start = new URLSearchParams(location.search);
for (const key of ["dataset", "noise", "backbone"]) {
  if (start.get(key) in DATA.names[key]) chosen[key] = start.get(key);
}
if (start.has("methods")) chosen.methods = new Set(start.get("methods").split(" ").filter((name) => name in LOOKS));
function remember() {
  const now = new URLSearchParams();
  for (const key of ["dataset", "noise", "backbone"]) if (chosen[key] !== DATA.start[key]) now.set(key, chosen[key]);
  const methods = [...chosen.methods].join(" ");
  if (methods !== DATA.start.methods.join(" ")) now.set("methods", methods);
  for (const [key, value] of Object.entries(narrowed())) if (value) now.set(key, value);
  const hidden = $$("[name=column]:not(:checked)").map((box) => box.value);
  if (hidden.join("|") !== phone) now.set("hidden", hidden.join("|"));
  const sorted = $("#grid [aria-sort$=ending]");
  if (sorted) now.set("sort", `${sorted.getAttribute("aria-sort") === "descending" ? "-" : ""}${sorted.textContent}`);
  const search = now.toString();
  history.replaceState(null, "", `${location.pathname}${search ? `?${search}` : ""}${location.hash}`);
}
for (const input of $$("#setting input")) {
  input.checked = chosen[input.name] === input.value;
  input.addEventListener("change", () => {
    chosen[input.name] = input.value;
    showAll();
    remember();
  });
}
function pick(wanted) {
  for (const box of $$("[name=method]")) box.checked = wanted(box.value);
  chosen.methods = new Set($$("[name=method]:checked").map((box) => box.value));
}
pick((name) => chosen.methods.has(name));
function repick(wanted) {
  pick(wanted);
  showAll();
  remember();
}
for (const box of $$("[name=method]")) box.addEventListener("change", () => repick((name) => $(`[name=method][value="${name}"]`).checked));
$("#methods-all").addEventListener("click", () => repick(() => true));
$("#methods-few").addEventListener("click", () => repick((name) => DATA.start.methods.includes(name)));

// --- The figure of the method

function touch(part) {
  for (const each of $$(".part")) each.setAttribute("aria-pressed", each === part);
  for (const way of $$(".way")) way.classList.toggle("chosen", way.id === `way-${part.dataset.way}`);
}
for (const part of $$(".part")) {
  part.addEventListener("click", () => touch(part));
  part.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    touch(part);
    event.preventDefault();
  });
}
touch($(".part[data-way=output]"));

// --- Results: sort, filter, columns

const grid = $("#grid"), body = $("tbody", grid), lines = $$("tr", body);
for (const table of $$(".scroll > table")) {
  table.parentElement.classList.add("cardy");
  const titles = $$("thead th", table).map((heading) => heading.textContent);
  for (const line of $$("tbody tr", table)) [...line.children].forEach((cell, index) => { cell.dataset.label = titles[index]; });
}
function narrowed() {
  return { search: $("#search").value, ...Object.fromEntries($$("#filters select").map((select) => [select.name, select.value])) };
}
function filter() {
  const wanted = $("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const line of lines) {
    const cells = [...line.children].slice(0, 4), name = cells.map((cell) => `${cell.textContent} ${cell.dataset.name ?? ""}`).join(" ").toLowerCase();
    const fits = wanted.every((word) => name.includes(word)) &&
      $$("#filters select").every((select, index) => !select.value || cells[index + 1].dataset.name === select.value);
    line.hidden = !fits;
    count += fits;
  }
  $("#count").textContent = `${count} of ${lines.length} cells`;
}
for (const each of $$("#filters input, #filters select")) each.addEventListener("input", () => { filter(); remember(); });
$("#reset").addEventListener("click", () => {
  for (const each of $$("#filters input, #filters select")) each.value = "";
  filter();
  remember();
});
function columns() {
  const hidden = new Set($$("[name=column]:not(:checked)").map((box) => box.value));
  for (const cell of $$("th, td", grid)) {
    if (cell.dataset.label === undefined) cell.dataset.label = cell.textContent;
    cell.hidden = hidden.has(cell.dataset.label);
  }
}
for (const box of $$("[name=column]")) box.addEventListener("change", () => { columns(); remember(); });
function sort(heading, up) {
  const column = [...heading.parentElement.children].indexOf(heading);
  for (const other of $$("thead th", grid)) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const numeric = heading.classList.contains("number");
  const value = (line) => numeric ? line.children[column].dataset.v?.split(" ")[0] ?? "" : line.children[column].textContent;
  const ordered = lines.map((line) => [line, value(line)]).sort(([, a], [, b]) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // gaps last, either way
    const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
    return up ? order : -order;
  });
  body.append(...ordered.map(([line]) => line));
}
for (const heading of $$("thead th", grid)) {
  heading.firstChild.addEventListener("click", () => {
    sort(heading, heading.getAttribute("aria-sort") !== "ascending");
    remember();
  });
}
for (const each of $$("#filters input, #filters select")) each.value = start.get(each.name || each.id) ?? "";
// A card on a phone starts with what matters most.
const phone = matchMedia("(max-width: 40rem)").matches ? "oracle (%)|NLL|channels × 1000|kernels × 1000|parameters|seconds|n" : "";
const hidden = (start.get("hidden") ?? phone).split("|");
for (const box of $$("[name=column]")) box.checked = !hidden.includes(box.value);
const sorted = start.get("sort"), by = $$("thead th", grid).find((heading) => heading.textContent === sorted?.replace(/^-/, ""));
if (by) sort(by, !sorted.startsWith("-"));

// --- CSV

function save(name, rows) {
  const quoted = (value) => /[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const text = rows.map((row) => row.map((value) => quoted(typeof value === "number" ? String(Number(value.toPrecision(12))) : String(value ?? ""))).join(",")).join("\n");
  const link = make("a", { download: `${name}.csv`, href: URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" })) });
  link.click();
  URL.revokeObjectURL(link.href);
}
// Each column of numbers becomes two: the numbers, and half the widths of their intervals.
function numbers(table) {
  const headings = $$("thead th", table), rows = $$("tbody tr", table).filter((line) => !line.hidden).map((line) => [...line.children]);
  const wide = headings.map((_, index) => rows.some((row) => row[index].dataset.v?.includes(" ")));
  const parts = (cell, index) => {
    const [mean, half] = cell.dataset.v?.split(" ") ?? [cell.dataset.name ?? (cell.classList.contains("number") && cell.textContent === "–" ? "" : cell.textContent)];
    return wide[index] ? [mean, half] : [mean];
  };
  return [headings.flatMap((heading, index) => wide[index] ? [heading.textContent, `${heading.textContent} half_width`] : [heading.textContent]),
    ...rows.map((row) => row.flatMap(parts))];
}
document.addEventListener("click", (event) => {
  const button = event.target.closest(".csv");
  if (button?.dataset.chart) save(button.dataset.chart, CHARTS[button.dataset.chart]().csv);
  if (button?.dataset.table) save(button.dataset.table, numbers($(`table[data-name="${CSS.escape(button.dataset.table)}"]`)));
});

// --- The runs behind a number

function opened(places, rule) {
  const inside = $("#runs-body");
  inside.replaceChildren(...(rule ? [make("p", { class: "note" }, rule)] : []));
  for (const place of places.slice(0, 24)) {
    const cell = CELLS[place], machines = cell.environments.map((index) => DATA.environments[index]);
    const head = ["seed", "accuracy", "oracle", "at epoch", "nll", "ece", "channels", "kernels", "weights (SHA-256)"];
    const rows = cell.runs.map((run) => [
      run.seed, `${(100 * run.accuracy).toFixed(2)} %`, `${(100 * run.oracle).toFixed(2)} %`,
      run.oracle_epoch, run.nll.toFixed(4), `${(100 * run.ece).toFixed(2)} %`,
      (1000 * run.channel_correlation).toFixed(2), (1000 * run.kernel_cosine).toFixed(2),
      run.weights.slice(0, 12)]);
    const line = (tag, values) => make("tr", {}, ...values.map((value, index) =>
      make(tag, index ? { class: "number" } : {}, String(value))));
    const facts = {
      record: cell.record.path, "SHA-256": cell.record.sha256,
      code: cell.code.map((code) =>
        `imcl ${code.version}, commit ${code.commit}${code.modified ? " with changes" : ""}`).join("; "),
      data: cell.data.dataset, labels: cell.data.noise ?? "clean",
      machine: machines.map((each) =>
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
  if (button) opened(button.dataset.cells.split(" ").map(Number), DATA.rules[button.dataset.rule]);
  if (event.target === $("#runs")) $("#runs").close(); // a click outside the dialog
});

// --- Paper and windows

let folded = [];
addEventListener("beforeprint", () => {
  folded = $$("details:not([open])");
  for (const each of folded) each.open = true;
});
addEventListener("afterprint", () => { for (const each of folded) each.open = false; });
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(showAll, 200); });

filter();
columns();
showAll();
// The charts have moved what an address with a section asks for.
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
document.documentElement.dataset.ready = "true";
