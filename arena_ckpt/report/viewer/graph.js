// The graph of the layers, from the input at the left to the loss. What is in sight exists.

const CELL = { width: 128, height: 54 }; // of a layer, with the room around it
const BOX = { width: 102, height: 36, top: 13 };
const HIGHEST_GRAPH = 236;
const CLOSEST = 1.5;
const FARTHEST = 0.04;
const SMALLEST_READ = 0.55; // below, boxes have no names
const LOWEST = 0.4; // lanes are no lower, so that a long net that fits can be seen

class LayerGraph {
  constructor(app) {
    this.app = app;
    this.isOpen = window.innerWidth > 720;
    this.plan = null;
    this.scale = 1;
    this.cursor = 0; // the layer that keys go to
    this.shown = null; // what was last scrolled to
    this.sheet = $("layers-sheet");
    this.listen();
    this.open(this.isOpen, { scrolls: false });
  }

  listen() {
    $("layers-button").addEventListener("click", () => this.open(!this.isOpen));
    $("layers-closer").addEventListener("click", () => this.zoom(this.scale * 1.4));
    $("layers-farther").addEventListener("click", () => this.zoom(this.scale / 1.4));
    $("layers-fit").addEventListener("click", () => this.zoom(this.fitting));
    const scroller = $("layers-scroll");
    scroller.addEventListener("scroll", () => this.render());
    scroller.addEventListener("keydown", (event) => this.key(event));
    this.sheet.addEventListener("click", (event) => {
      const box = event.target.closest("[data-layer]");
      if (box) this.choose(Number(box.dataset.layer));
    });
  }

  // Hide the graph where it is in sight, else bring it there.
  toggle() {
    this.open(!this.isOpen || !isInSight($("layers-scroll")));
  }

  open(isOpen, { scrolls = true } = {}) {
    this.isOpen = isOpen;
    $("layers-button").setAttribute("aria-expanded", String(isOpen));
    if (!isOpen && document.activeElement === $("layers-scroll")) $("layers-button").focus();
    for (const id of ["layers-scroll", "layers-zoom"]) $(id).hidden = !isOpen;
    if (!this.plan) return;
    this.shown = null;
    this.resize();
    this.follow();
    if (isOpen && scrolls) $("layers").scrollIntoView({ block: "nearest" });
  }

  // Show the layers of another plan.
  show(plan) {
    if (plan === this.plan) return;
    this.plan = plan;
    this.places = placeLayers(plan.layerInputs);
    this.numberOf = new Map(Array.from(plan.layerName, (word, layer) => [plan.words[word], layer]));
    this.blockAt = this.cellsOfBlocks();
    this.cursor = 0;
    this.shown = null;
    this.scale = 1;
    $("layers").hidden = plan.layerName.length < 2;
    this.resize();
  }

  get width() {
    return this.places.nColumns * CELL.width;
  }

  get height() {
    return this.places.nLanes * CELL.height + 6;
  }

  get fitting() {
    const { clientWidth } = $("layers-scroll");
    return Math.min(Math.max(clientWidth / this.width, FARTHEST), HIGHEST_GRAPH / this.height, 1);
  }

  get scaleDown() {
    return Math.max(this.scale, LOWEST);
  }

  zoom(scale) {
    const scroller = $("layers-scroll");
    const middle = (scroller.scrollLeft + scroller.clientWidth / 2) / this.scale;
    this.scale = Math.min(Math.max(scale, FARTHEST), CLOSEST);
    this.resize();
    scroller.scrollLeft = middle * this.scale - scroller.clientWidth / 2;
    this.render();
  }

  resize() {
    if (!this.plan || !this.isOpen) return;
    const inner = $("layers-inner");
    inner.style.width = `${Math.ceil(this.width * this.scale)}px`;
    inner.style.height = `${Math.ceil(this.height * this.scaleDown)}px`;
    this.sheet.style.transform = `scale(${this.scale}, ${this.scaleDown})`;
    this.sheet.classList.toggle("far", this.scale < SMALLEST_READ);
    $("layers-scroll").style.height = `${Math.min(this.height * this.scaleDown, HIGHEST_GRAPH) + 16}px`;
    this.drawn = null;
    this.render();
  }

  // -- what is marked -------------------------------------------------------------------------

  // How layers use the pinned tensor, and which of them it belongs to.
  marks() {
    const { plan, app } = this;
    const uses = new Map(); // layer: set of accesses
    let owner = app.layer === null ? -1 : (this.numberOf.get(app.layer) ?? -1);
    const name = app.pin === null ? -1 : plan.nameNumber(app.pin);
    for (const tensor of name < 0 ? [] : plan.livesOf(name)) {
      owner = this.numberOf.get(plan.words[plan.tensorLayer[tensor]]) ?? -1;
      for (let u = plan.useFirst[tensor]; u < plan.useFirst[tensor + 1]; u++) {
        const layer = this.numberOf.get(plan.words[plan.stepLayer[plan.useStep[u]]]);
        if (layer === undefined) continue;
        if (!uses.has(layer)) uses.set(layer, new Set());
        uses.get(layer).add(plan.vocabulary.accesses[plan.useAccess[u]]);
      }
    }
    const step = Math.min(app.step, plan.nSteps - 1);
    const now = plan.nSteps ? this.numberOf.get(plan.words[plan.stepLayer[step]]) : undefined;
    return { owner, uses, now: now ?? -1 };
  }

  // Keep up with what the map has selected.
  follow() {
    if (!this.isOpen || !this.plan) return;
    const { app } = this;
    this.marked = this.marks();
    const { owner, now } = this.marked;
    const selected = `${app.pin} ${app.layer} ${owner < 0 ? now : ""}`;
    if (selected !== this.shown) {
      this.shown = selected;
      if (owner >= 0 || now >= 0) this.bringIntoSight(owner >= 0 ? owner : now);
    }
    this.drawn = null;
    this.render();
  }

  bringIntoSight(layer) {
    const scroller = $("layers-scroll");
    const { column, lane } = this.places;
    const left = column[layer] * CELL.width * this.scale;
    const right = left + CELL.width * this.scale;
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = scroller;
    if (left < scrollLeft || right > scrollLeft + clientWidth) {
      scroller.scrollLeft = (left + right - clientWidth) / 2;
    }
    const top = lane[layer] * CELL.height * this.scaleDown;
    const bottom = top + CELL.height * this.scaleDown;
    if (top < scrollTop || bottom > scrollTop + clientHeight) {
      scroller.scrollTop = (top + bottom - clientHeight) / 2;
    }
    this.cursor = layer;
  }

  // -- drawing --------------------------------------------------------------------------------

  // Draw what is in sight and a screen beside it, unless that is drawn.
  render() {
    if (!this.isOpen || !this.plan) return;
    this.marked ??= this.marks();
    const { scrollLeft, clientWidth } = $("layers-scroll");
    const from = scrollLeft / this.scale;
    const to = (scrollLeft + clientWidth) / this.scale;
    if (this.drawn && this.drawn.from <= from && to <= this.drawn.to) return;
    const beside = to - from;
    this.drawn = { from: Math.max(from - beside, 0), to: Math.min(to + beside, this.width) };
    const first = Math.floor(this.drawn.from / CELL.width);
    const last = Math.min(Math.ceil(this.drawn.to / CELL.width), this.places.nColumns);
    const boxes = [];
    for (let at = first; at < last; at++) {
      for (const layer of this.places.inColumn[at]) boxes.push(this.makeBox(layer));
    }
    this.sheet.replaceChildren(this.makeLines(first, last), ...boxes);
    this.markCursor();
  }

  makeBox(layer) {
    const { plan, places, marked } = this;
    const name = plan.words[plan.layerName[layer]];
    const type = plan.words[plan.layerType[layer]];
    const verbs = [...(marked.uses.get(layer) ?? [])].map((access) => ({ read: "reads", write: "writes", update: "updates" })[access]);
    const box = element("div", "layer", element("span", "name", name), element("span", "type", verbs.join(", ") || inWords(type)));
    box.id = `layer-${layer}`;
    box.dataset.layer = layer;
    box.setAttribute("role", "option");
    box.setAttribute("aria-selected", String(layer === marked.owner));
    const shape = plan.shapes[plan.layerShape[layer]];
    const block = plan.layerBlock[layer];
    const facts = [name, inWords(type), `gives ${shape}`];
    if (block) facts.push(`in block ${plan.words[plan.blockName[block - 1]]}`);
    if (verbs.length) facts.push(`${verbs.join(", ")} ${this.app.pin}`);
    if (layer === marked.now) facts.push("runs at this step");
    box.title = facts.join("\n");
    box.setAttribute("aria-label", facts.join(", "));
    if (verbs.length) box.classList.add("uses");
    if (layer === marked.now) box.classList.add("now");
    const { x, y } = this.placeOf(layer);
    box.style.transform = `translate(${x}px, ${y}px)`;
    return box;
  }

  placeOf(layer) {
    const { column, lane } = this.places;
    return { x: column[layer] * CELL.width + 8, y: lane[layer] * CELL.height + BOX.top };
  }

  makeLines(first, last) {
    const left = first * CELL.width;
    const width = (last - first) * CELL.width;
    const svg = svgElement("svg", {
      width,
      height: this.height,
      viewBox: `${left} 0 ${width} ${this.height}`,
      style: `left: ${left}px`,
      "aria-hidden": "true",
    });
    svg.append(...this.frames(first, last));
    const { column } = this.places;
    this.plan.layerInputs.forEach((inputs, reader) => {
      for (const input of inputs) {
        if (column[reader] < first || column[input] >= last) continue;
        const isLit = this.marked.owner === input || this.marked.owner === reader;
        svg.append(svgElement("path", { d: this.wayOf(input, reader), class: isLit ? "lit" : "" }));
      }
    });
    return svg;
  }

  // From the right of a box to the left of its reader, with a head.
  wayOf(input, reader) {
    const { column, lines } = this.places;
    const from = this.placeOf(input);
    const to = this.placeOf(reader);
    const middle = BOX.height / 2;
    const curve = (x0, y0, x1, y1) => (y0 === y1 ? `H${x1}` : `C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`);
    const parts = [`M${from.x + BOX.width} ${from.y + middle}`];
    let [x, y] = [from.x + BOX.width, from.y + middle];
    if (column[reader] > column[input] + 1) {
      const { first, lane } = lines.get(input);
      const along = lane * CELL.height + BOX.top + middle;
      parts.push(curve(x, y, first * CELL.width + 8, along));
      [x, y] = [column[reader] * CELL.width - CELL.width + 8 + BOX.width, along];
      parts.push(`H${x}`);
    }
    parts.push(curve(x, y, to.x, to.y + middle), "m-5 -3.5l5 3.5l-5 3.5");
    return parts.join("");
  }

  // The block of each cell: of a layer, or of a line between layers of one block.
  cellsOfBlocks() {
    const { plan, places } = this;
    const cells = new Map();
    const put = (column, lane, block) => cells.set(`${column} ${lane}`, block);
    plan.layerBlock.forEach((block, layer) => {
      if (!block) return;
      put(places.column[layer], places.lane[layer], block);
      const line = places.lines.get(layer);
      if (!line) return;
      const ends = places.readers[layer].filter((r) => plan.layerBlock[r] === block).map((r) => places.column[r]);
      for (let at = line.first; at < Math.max(...ends, 0); at++) put(at, line.lane, block);
    });
    return cells;
  }

  // Blocks are framed along the sides of their cells, each with its name at its start.
  frames(first, last) {
    const { plan, blockAt, places } = this;
    const made = [];
    const named = new Set();
    for (let at = first; at < last; at++) {
      for (let lane = 0; lane < places.nLanes; lane++) {
        const block = blockAt.get(`${at} ${lane}`);
        if (!block) continue;
        const isOther = (column, row) => blockAt.get(`${column} ${row}`) !== block;
        const [x0, y0] = [at * CELL.width - 4, lane * CELL.height + 1];
        const [x1, y1] = [x0 + CELL.width, y0 + CELL.height];
        made.push(svgElement("rect", { x: x0, y: y0, width: CELL.width, height: CELL.height, class: "block" }));
        const sides = [
          isOther(at, lane - 1) ? `M${x0} ${y0}H${x1}` : "",
          isOther(at, lane + 1) ? `M${x0} ${y1}H${x1}` : "",
          isOther(at - 1, lane) ? `M${x0} ${y0}V${y1}` : "",
          isOther(at + 1, lane) ? `M${x1} ${y0}V${y1}` : "",
        ].join("");
        if (sides) made.push(svgElement("path", { d: sides, class: "frame" }));
        if (isOther(at - 1, lane) && isOther(at, lane - 1) && !named.has(block)) {
          named.add(block);
          const name = fitText(plan.words[plan.blockName[block - 1]], 10, CELL.width - 12);
          made.push(svgElement("text", { x: x0 + 6, y: y0 + 9.5 }, name));
        }
      }
    }
    return made;
  }

  // -- keys -------------------------------------------------------------------------------------

  choose(layer) {
    this.cursor = layer;
    this.app.chooseLayer(this.plan.words[this.plan.layerName[layer]]);
  }

  markCursor() {
    for (const box of this.sheet.querySelectorAll(".cursor")) box.classList.remove("cursor");
    const box = $(`layer-${this.cursor}`);
    box?.classList.add("cursor");
    if (box) $("layers-scroll").setAttribute("aria-activedescendant", box.id);
    else $("layers-scroll").removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.plan.layerName.length - 1;
    const to = {
      ArrowLeft: () => this.plan.layerInputs[this.cursor][0] ?? Math.max(this.cursor - 1, 0),
      ArrowRight: () => this.places.readers[this.cursor][0] ?? Math.min(this.cursor + 1, last),
      ArrowUp: () => this.beside(-1),
      ArrowDown: () => this.beside(1),
      Home: () => 0,
      End: () => last,
    }[event.key];
    const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 }[event.key];
    if (to) {
      this.bringIntoSight(to());
      this.render();
      this.markCursor();
    } else if (zoom) this.zoom(this.scale * zoom);
    else if (event.key === "f") this.zoom(this.fitting);
    else if (event.key === "Enter" || event.key === " ") this.choose(this.cursor);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // The next layer of the same column, or the next by number where there is none.
  beside(direction) {
    const { column, lane, inColumn } = this.places;
    const here = lane[this.cursor];
    const others = inColumn[column[this.cursor]]
      .filter((layer) => (lane[layer] - here) * direction > 0)
      .sort((a, b) => (lane[a] - lane[b]) * direction);
    return others[0] ?? Math.min(Math.max(this.cursor + direction, 0), this.plan.layerName.length - 1);
  }
}
