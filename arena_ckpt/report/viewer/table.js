// The table of all buffers, one row for each live range. Only the rows in sight exist.

const MOST_PIXELS = 8e6; // browsers know no element much higher; beyond, rows scroll faster
const ROWS_BESIDE = 8; // made above and below those in sight

class BufferTable {
  constructor(app) {
    this.app = app;
    this.isOpen = false;
    this.plan = null; // whose rows these are
    this.filter = "";
    this.sort = { key: "start", isDown: false };
    this.rows = new Uint32Array(0);
    this.cursor = 0; // the row that keys go to
    this.shownPin = null;
    this.makeHead();
    this.listen();
  }

  makeHead() {
    this.heads = new Map();
    const row = element("tr");
    for (const { key, value } of COLUMNS) {
      const button = element("button", "", key);
      button.type = "button";
      button.addEventListener("click", () => this.sortBy(key));
      const head = element("th", value ? `number ${key}` : key, button);
      head.scope = "col";
      this.heads.set(key, head);
      row.append(head);
    }
    row.setAttribute("aria-rowindex", "1");
    this.body = element("tbody");
    $("buffers-table").append(element("thead", "", row), this.body);
  }

  listen() {
    $("buffers-button").addEventListener("click", () => this.open(!this.isOpen));
    $("filter").addEventListener("input", () => this.setFilter($("filter").value));
    $("filter").addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "ArrowDown" || event.key === "Enter") $("buffers-table").focus();
      else if (event.key === "Escape") this.setFilter("");
      else return;
      event.preventDefault();
    });
    $("copy-csv").addEventListener("click", () => this.copy(",", "CSV"));
    $("copy-tsv").addEventListener("click", () => this.copy("\t", "TSV"));
    $("buffers-scroll").addEventListener("scroll", () => this.render());
    $("buffers-table").addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-row]");
      if (row) this.choose(Number(row.dataset.row));
    });
  }

  // Hide the table where it is in sight, else bring it there.
  toggle() {
    this.open(!this.isOpen || !isInSight($("buffers-body")));
  }

  open(isOpen, { scrolls = true } = {}) {
    this.isOpen = isOpen;
    $("buffers-button").setAttribute("aria-expanded", String(isOpen));
    if (!isOpen && $("buffers-body").contains(document.activeElement)) $("buffers-button").focus();
    $("buffers-body").hidden = !isOpen;
    if (isOpen) {
      this.list();
      if (scrolls) $("buffers").scrollIntoView({ block: "nearest" });
    }
    this.app.links.followSoon();
  }

  // Show the rows of another plan.
  show(plan) {
    $("buffers-of").textContent = this.app.charts.length > 1 ? `of ${plan.title}` : "";
    if (plan === this.plan) return;
    this.plan = plan;
    if (this.isOpen) this.list();
  }

  setFilter(text) {
    this.filter = text;
    if ($("filter").value !== text) $("filter").value = text;
    if (this.isOpen) this.list();
    this.app.links.followSoon();
  }

  sortBy(key) {
    const isDown = this.sort.key === key ? !this.sort.isDown : LARGEST_FIRST.has(key);
    this.sort = { key, isDown };
    this.list();
  }

  // Find and sort the rows anew. A filter that cannot be read leaves them as they are.
  list() {
    const { plan } = this;
    let found = this.rows;
    try {
      found = filteredRows(plan, this.filter);
      $("filter-error").textContent = "";
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      $("filter-error").textContent = error.message;
      if (this.listed !== plan) found = filteredRows(plan, "");
    }
    this.listed = plan;
    $("filter").setAttribute("aria-invalid", String(Boolean($("filter-error").textContent)));
    this.rows = sortedRows(plan, found, this.sort);
    for (const [key, head] of this.heads) {
      const order = this.sort.isDown ? "descending" : "ascending";
      head.setAttribute("aria-sort", key === this.sort.key ? order : "none");
    }
    const bytes = this.rows.reduce((sum, t) => sum + plan.sizeOf(t), 0);
    const all = this.rows.length === plan.nTensors ? "" : ` of ${formatCount(plan.nTensors)}`;
    $("buffers-count").textContent = `${formatCount(this.rows.length)}${all} live ranges, ${formatBytes(bytes)} together`;
    $("buffers-table").setAttribute("aria-rowcount", String(this.rows.length + 1));
    this.cursor = 0;
    const whole = this.rows.length * this.rowHeight + this.body.offsetTop + 18; // with a scroll bar
    $("buffers-scroll").style.height = `min(${whole}px, 440px, 62vh)`;
    $("buffers-scroll").scrollTop = 0;
    this.shownPin = null;
    this.follow();
  }

  // Keep up with what the map has selected.
  follow() {
    if (!this.isOpen) return;
    const { pin } = this.app;
    if (pin !== this.shownPin) {
      this.shownPin = pin;
      const row = pin === null ? -1 : this.rowOf(this.plan.nameNumber(pin));
      if (row >= 0) this.goTo(row);
    }
    this.render();
  }

  // The row of a name, of its lives the one that is alive at the step.
  rowOf(name) {
    const { plan, rows, app } = this;
    const isOf = (t) => plan.tensorName[t] === name;
    const isNow = (t) => plan.tensorStart[t] <= app.step && app.step < plan.tensorStop[t];
    const now = rows.findIndex((t) => isOf(t) && isNow(t));
    return now >= 0 ? now : rows.findIndex(isOf);
  }

  choose(row) {
    const { app, plan } = this;
    const tensor = this.rows[row];
    const name = plan.nameOf(tensor);
    this.cursor = row;
    this.shownPin = name; // it is in sight
    if (app.pin === name) app.setPin(name);
    else app.select(name, tensor);
  }

  key(event) {
    if (event.target !== $("buffers-table") || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(Math.floor(this.sight / this.rowHeight) - 1, 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      this.goTo(this.cursor + moves[event.key]);
      this.render();
    } else if (event.key === "Enter" || event.key === " ") this.choose(this.cursor);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // -- what is in sight ---------------------------------------------------------------------

  get rowHeight() {
    return window.innerWidth <= 720 ? 36 : 26;
  }

  // Height that rows have to themselves.
  get sight() {
    return $("buffers-scroll").clientHeight - this.body.offsetTop;
  }

  // How many pixels of rows go by for one that is scrolled.
  get speed() {
    const whole = this.rows.length * this.rowHeight;
    return whole > MOST_PIXELS ? (whole - this.sight) / (MOST_PIXELS - this.sight) : 1;
  }

  goTo(row) {
    this.cursor = Math.min(Math.max(row, 0), Math.max(this.rows.length - 1, 0));
    const scroller = $("buffers-scroll");
    const top = this.cursor * this.rowHeight;
    const seen = scroller.scrollTop * this.speed;
    if (top < seen) scroller.scrollTop = Math.floor(top / this.speed);
    else if (top + this.rowHeight > seen + this.sight) {
      scroller.scrollTop = Math.ceil((top + this.rowHeight - this.sight) / this.speed);
    }
  }

  render() {
    if (!this.isOpen) return;
    const { rows, rowHeight, speed } = this;
    const scrolled = $("buffers-scroll").scrollTop;
    const whole = Math.min(rows.length * rowHeight, MOST_PIXELS);
    const first = Math.max(Math.floor((scrolled * speed) / rowHeight) - ROWS_BESIDE, 0);
    const last = Math.min(first + Math.ceil(this.sight / rowHeight) + 2 * ROWS_BESIDE, rows.length);
    const above = Math.max(scrolled - (scrolled * speed - first * rowHeight), 0);
    const below = Math.max(whole - above - (last - first) * rowHeight, 0);
    const made = [];
    for (let row = first; row < last; row++) made.push(this.makeRow(row));
    this.body.replaceChildren(spacer(above), ...made, spacer(below));
    const isCursorMade = first <= this.cursor && this.cursor < last;
    if (isCursorMade) $("buffers-table").setAttribute("aria-activedescendant", `row-${this.cursor}`);
    else $("buffers-table").removeAttribute("aria-activedescendant");
  }

  makeRow(row) {
    const { plan, app } = this;
    const tensor = this.rows[row];
    const made = element("tr");
    for (const column of COLUMNS) {
      const text = cellText(plan, column, tensor);
      const cell = element("td", column.value ? `number ${column.key}` : column.key, text);
      if (column.key === "tensor") cell.prepend(swatch(plan, plan.tensorKind[tensor]));
      if (text.length > 12) cell.title = text;
      made.append(cell);
    }
    made.id = `row-${row}`;
    made.dataset.row = row;
    made.style.height = `${this.rowHeight}px`;
    made.setAttribute("aria-rowindex", String(row + 2));
    made.setAttribute("aria-selected", String(app.isSelected(plan, tensor)));
    if (row === this.cursor) made.classList.add("cursor");
    return made;
  }

  copy(separator, format) {
    const said = `${formatCount(this.rows.length)} rows are copied as ${format}.`;
    return copyText(rowsAsText(this.plan, this.rows, separator), said);
  }
}

// A row that takes the place of those that are not made.
function spacer(height) {
  const row = element("tr", "spacer", element("td"));
  row.setAttribute("aria-hidden", "true");
  row.firstChild.colSpan = COLUMNS.length;
  row.firstChild.style.height = `${height}px`;
  return row;
}
