// The ranking: sorted, filtered, a part of it in the page at a time, and a row that opens its trial.

const CHUNK = 100;

class Ranking {
  constructor(run) {
    this.run = run;
    this.rows = stored(`${run.id}-rows`);
    this.find = (selector) => run.querySelector(selector);
    this.columns = this.standardColumns();
    this.sort = { column: "rank", down: false };
    this.text = "";
    this.shown = CHUNK;
    this.open = new Set();
    this.position = new Map(this.rows.id.map((id, at) => [id, at]));
    const rest = [...Object.keys(this.rows.metrics), ...Object.keys(this.rows.config)];
    this.find(".more-columns").append(...rest.map((name) => element("option", { value: name, textContent: name })));
    this.find(".more-columns").addEventListener("change", (event) => this.addColumn(event.target.value));
    this.find(".filter").addEventListener("input", (event) => this.filter(event.target.value));
    this.find(".more").addEventListener("click", () => { this.shown += 5 * CHUNK; this.fill(); });
    this.update();
  }

  standardColumns() {
    const { rows } = this;
    const columns = [{ key: "rank", label: "rank", values: rows.rank, number: true }];
    if (rows.front) columns.push({ key: "front", label: "front", values: rows.front, number: true });
    columns.push({ key: "id", label: "trial", values: rows.id });
    columns.push({ key: "score", label: rows.metric, values: rows.score, number: true, down: rows.mode === "max", digits: rows.digits });
    for (const [name, values] of Object.entries(rows.objectives)) columns.push({ key: name, label: name, values, number: true });
    columns.push({ key: "status", label: "status", values: rows.status });
    columns.push({ key: "trained", label: "epochs", values: rows.trained, number: true, down: true });
    columns.push({ key: "seconds", label: "time", values: rows.seconds, number: true, down: true, write: format.duration });
    columns.push({ key: "words", label: "configuration", values: rows.words });
    return columns;
  }

  column(name) {
    const values = this.rows.metrics[name] || this.rows.config[name];
    const number = values.every((value) => value === null || value === undefined || typeof value === "number");
    return { key: `own:${name}`, label: name, values, number };
  }

  addColumn(name) {
    this.find(".more-columns").value = "";
    if (!name || this.columns.some((column) => column.key === `own:${name}`)) return;
    this.columns.splice(this.columns.length - 1, 0, this.column(name));
    this.update();
  }

  filter(text) {
    this.text = text;
    this.shown = CHUNK;
    this.update();
  }

  // "adam" anywhere; "status=pruned", "lr<0.01" of a column or of whatever ends so in the configuration.
  matcher(term) {
    const { rows } = this;
    const parts = /^([^=<>]+)(<=|>=|=|<|>)(.+)$/.exec(term);
    const everywhere = [...this.columns.map((column) => [column.label, column.values]), ...Object.entries(rows.metrics), ...Object.entries(rows.config)];
    if (parts) {
      const [, name, sign, wanted] = parts;
      const named = everywhere.filter(([label]) => label.toLowerCase() === name || label.toLowerCase().endsWith(`.${name}`) || label.toLowerCase().endsWith(`/${name}`));
      const number = Number(wanted);
      const tests = { "<": (v) => v < number, ">": (v) => v > number, "<=": (v) => v <= number, ">=": (v) => v >= number };
      const test = sign === "="
        ? (v) => String(v).toLowerCase() === wanted || (typeof v === "number" && v === number)
        : (v) => typeof v === "number" && tests[sign](v);
      return (at) => named.some(([, values]) => values[at] !== null && values[at] !== undefined && test(values[at]));
    }
    if (!this.texts) {
      const columns = [rows.id, rows.status, rows.words, rows.reason, rows.origin, ...Object.values(rows.config).filter((values) => values.some((value) => typeof value === "string"))];
      this.texts = rows.id.map((_, at) => columns.map((values) => values[at] ?? "").join("\n").toLowerCase());
    }
    return (at) => this.texts[at].includes(term);
  }

  update() {
    const terms = this.text.toLowerCase().split(/\s+/).filter(Boolean).map((term) => this.matcher(term));
    const { values, number } = this.columns.find((column) => column.key === this.sort.column);
    const sign = this.sort.down ? -1 : 1;
    const missing = (value) => value === null || value === undefined || value === "";
    this.view = this.rows.id.map((_, at) => at).filter((at) => terms.every((matches) => matches(at)));
    this.view.sort((a, b) => {
      const [one, other] = [values[a], values[b]];
      if (missing(one) || missing(other)) return missing(one) - missing(other) || a - b;  // last, whichever way
      return sign * (number ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true })) || a - b;
    });
    this.head();
    this.fill();
  }

  head() {
    const cells = this.columns.map((column) => {
      const button = element("button", { type: "button", textContent: column.label });
      button.addEventListener("click", () => {
        const again = this.sort.column === column.key;
        this.sort = { column: column.key, down: again ? !this.sort.down : Boolean(column.down) };
        this.update();
      });
      const cell = element("th", { className: column.number ? "num" : "", scope: "col" }, button);
      if (this.sort.column === column.key) cell.ariaSort = this.sort.down ? "descending" : "ascending";
      return cell;
    });
    this.find(".ranking thead").replaceChildren(element("tr", {}, ...cells));
  }

  fill() {
    const body = this.find(".ranking tbody");
    body.querySelectorAll(".drawing").forEach((div) => plots.drop(div));
    const lines = [];
    for (const at of this.view.slice(0, this.shown)) {
      lines.push(this.line(at));
      if (this.open.has(this.rows.id[at])) lines.push(this.detail(at));
    }
    body.replaceChildren(...lines);
    body.querySelectorAll(".drawing").forEach((div) => this.drawCurves(div));
    const [found, all] = [this.view.length, this.rows.id.length];
    const many = `${all} ${all === 1 ? "trial" : "trials"}`;
    const none = this.text.trim() && !found ? `: nothing matches "${this.text.trim()}"` : "";
    this.find(".count").textContent = found === all ? many : `${found} of ${many}${none}`;
    this.find(".more").hidden = found <= this.shown;
    this.find(".more").textContent = `Show more (${Math.max(0, found - this.shown)} left)`;
  }

  line(at) {
    const { rows } = this;
    const row = element("tr", { className: `trial${rows.status[at] === "complete" ? "" : " apart"}`, tabIndex: 0 });
    row.dataset.trial = rows.id[at];
    row.ariaExpanded = String(this.open.has(rows.id[at]));
    if (this.open.has(rows.id[at])) row.classList.add("open");
    for (const column of this.columns) {
      const value = column.values[at];
      const cell = element("td", { className: `${column.number ? "num" : ""} ${column.key === "words" ? "words" : ""}`.trim() });
      if (column.key === "status") cell.append(element("span", { className: `status ${value}`, textContent: value }));
      else if (value !== null && value !== undefined)
        cell.textContent = column.write ? column.write(value) : column.digits && typeof value === "number" ? value.toFixed(column.digits) : format.number(value);
      if (column.key === "rank" && rows.tied[at]) cell.append(element("span", { className: "tied", title: "cannot be told from the first on the same photos", textContent: " ≈" }));
      row.append(cell);
    }
    row.addEventListener("click", () => this.toggle(rows.id[at]));
    row.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.toggle(rows.id[at]);
    });
    return row;
  }

  toggle(id) {
    if (!this.open.delete(id)) this.open.add(id);
    this.redraw(id);
  }

  // One row alone: the others keep their curves.
  redraw(id) {
    const old = this.find(`tr[data-trial="${CSS.escape(id)}"]`);
    if (!old) return this.fill();
    const after = old.nextElementSibling;
    if (after && after.classList.contains("detail")) {
      after.querySelectorAll(".drawing").forEach((div) => plots.drop(div));
      after.remove();
    }
    const at = this.position.get(id);
    const line = this.line(at);
    const focused = document.activeElement === old;
    old.replaceWith(line);
    if (focused) line.focus();
    if (!this.open.has(id)) return undefined;
    const detail = this.detail(at);
    line.after(detail);
    detail.querySelectorAll(".drawing").forEach((div) => this.drawCurves(div));
    return undefined;
  }

  detail(at) {
    const { rows } = this;
    const value = (path) => (path in rows.constant ? rows.constant[path] : rows.config[path][at]);
    const config = Object.fromEntries(rows.paths.filter((path) => value(path) !== null).map((path) => [path, value(path)]));
    const left = element("div");
    const said = [`Trial ${rows.id[at]}, ${rows.status[at]}`, rows.origin[at] && rows.origin[at] !== "sampler" ? rows.origin[at].replace("_", " ") : "", rows.best_epoch[at] ? `best epoch ${rows.best_epoch[at]}` : ""];
    left.append(element("p", { textContent: said.filter(Boolean).join(", ") }));
    if (rows.reason[at]) left.append(element("p", { className: "reason", textContent: rows.reason[at] }));
    if (rows.trained[at]) {
      const div = element("div", { className: "drawing" });
      div.dataset.curves = rows.id[at];
      div.style.height = "270px";
      left.append(div);
    } else left.append(element("p", { textContent: "It finished no epoch." }));
    const right = element("div", {}, element("pre", { textContent: format.yaml(config) }));
    const cell = element("td", { colSpan: this.columns.length }, element("div", { className: "inside" }, left, right));
    return element("tr", { className: "detail" }, cell);
  }

  drawCurves(div) {
    this.curves ||= stored(`${this.run.id}-curves-data`);
    const [epochs, ...values] = this.curves.trials[div.dataset.curves];
    const colours = ["#1F78B4", "#7F868F", "#D55E00"];
    const several = new Set(this.curves.names).size > 1 && !this.curves.names[0].endsWith("loss");
    const data = values.map((y, number) => ({
      x: epochs, y, name: this.curves.names[number], mode: "lines+markers", yaxis: several && number ? "y2" : "y",
      line: { color: colours[number % 3], width: number ? 1.3 : 2.2, dash: number ? "dot" : "solid" }, marker: { size: number ? 4 : 6 },
      hovertemplate: "%{y:.4g}",
    })).filter((trace) => trace.y.some((value) => value !== null));
    plots.draw(div, { data, layout: {
      height: 270, margin: { l: 48, r: 48, t: 8, b: 40 }, hovermode: "x unified", legend: { orientation: "h", y: -0.25 },
      xaxis: { title: { text: "epoch" }, automargin: true }, yaxis: { automargin: true },
      yaxis2: { overlaying: "y", side: "right", showgrid: false, automargin: true, tickformat: ".3~g", nticks: 5, title: { text: "loss" } },
    } });
  }

  // From a point of a figure to its row.
  show(id) {
    if (!this.position.has(id)) return;
    if (!this.view.includes(this.position.get(id))) {
      this.find(".filter").value = "";
      this.filter("");
    }
    const place = this.view.indexOf(this.position.get(id));
    if (place >= this.shown) { this.shown = place + CHUNK; this.fill(); }
    if (!this.open.has(id)) this.toggle(id);
    this.find(`tr[data-trial="${CSS.escape(id)}"]`).scrollIntoView({ block: "center" });
  }

  state() {
    return { text: this.text, sort: this.sort, open: [...this.open], own: this.columns.filter((column) => column.key.startsWith("own:")).map((column) => column.label) };
  }

  restore(state) {
    for (const name of state.own) if (name in this.rows.metrics || name in this.rows.config) this.columns.splice(this.columns.length - 1, 0, this.column(name));
    if (this.columns.some((column) => column.key === state.sort.column)) this.sort = state.sort;
    this.text = this.find(".filter").value = state.text;
    this.open = new Set(state.open.filter((id) => this.position.has(id)));
    this.update();
  }
}
