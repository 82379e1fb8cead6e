// The page: what is shown, and what pointer, keys and buttons do to it.

const MOST_LIT = 20000; // boxes kept bright by a search or a kind
const SLIDER_PARTS = 10000; // of the time axis

class App {
  constructor(page) {
    this.page = page;
    this.plans = new Map(); // by index into page.plans, read when first shown
    const isDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    this.themeName = isDark ? "dark" : "light";
    this.tab = "map";
    this.chosen = page.front_axes?.fastest ?? 0; // point of the front
    this.charts = [];
    this.step = 0;
    this.pin = null; // a name
    this.layer = null; // a name, where a layer is chosen
    this.aim = null; // { chart, segment } under the pointer or chosen by keys
    this.kind = -1;
    this.isTime = false; // steps as wide as they take
    this.isFolded = null; // weights and states; null until someone chose
    this.search = new Search(this);
    this.isWaiting = false;
    this.table = new BufferTable(this);
    this.graph = new LayerGraph(this);
    this.links = new Links(this);
    this.parts = [this.table, this.graph, this.links]; // they follow what is selected
  }

  async start() {
    this.applyTheme();
    this.makeTabs();
    this.listen();
    await this.show("map");
    $("loading").hidden = true;
    fitFrame();
    await this.links.apply();
    this.readyMilliseconds = performance.now(); // since the page was asked for
  }

  async plan(index) {
    if (!this.plans.has(index)) {
      const blob = $(`plan-${index}`);
      const plan = await Plan.read(this.page.plans[index], blob.textContent, this.page.vocabulary);
      blob.remove();
      this.plans.set(index, plan);
    }
    return this.plans.get(index);
  }

  get theme() {
    return this.page.themes[this.themeName];
  }

  get plan0() {
    return this.charts[this.active ?? 0].plan;
  }

  get isSideBySide() {
    return this.charts.length > 1 && window.innerWidth > 720;
  }

  // -- tabs and themes --------------------------------------------------------------------

  makeTabs() {
    const tabs = [["map", "Map"]];
    if (this.page.has_before) tabs.push(["compare", "Before and after"]);
    if (this.page.front.length) tabs.push(["front", "Pareto front"]);
    if (tabs.length === 1) return;
    tabs.forEach(([name, text], i) => {
      const button = element("button", "", text);
      button.type = "button";
      button.id = `tab-${name}`;
      button.setAttribute("role", "tab");
      button.addEventListener("click", () => this.show(name));
      button.addEventListener("keydown", (event) => {
        const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!move) return;
        event.stopPropagation();
        const next = tabs[(i + move + tabs.length) % tabs.length][0];
        $(`tab-${next}`).focus();
        this.show(next);
      });
      $("tabs").append(button);
    });
  }

  async show(tab) {
    this.tab = tab;
    for (const button of $("tabs").children) {
      const isChosen = button.id === `tab-${tab}`;
      button.setAttribute("aria-selected", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
    }
    const indexes = {
      map: () => [0],
      compare: () => [1, 0],
      front: () => [this.page.front[this.chosen].plan],
    }[tab]();
    const plans = await Promise.all(indexes.map((index) => this.plan(index)));
    if (this.tab !== tab) return;
    $("content").hidden = false;
    $("front").hidden = tab !== "front";
    $("comparison").hidden = tab !== "compare";
    this.setPlans(plans, indexes);
    if (tab === "compare") {
      $("comparison").replaceChildren(comparison(plans[0], plans[1], (name) => this.setPin(name)));
    }
  }

  setPlans(plans, indexes) {
    this.view = { hasNames: plans.some((plan) => !plan.isArenaAlone) };
    const isAlone = indexes[0] === 0 && plans.length === 1;
    this.charts = plans.map(
      (plan, i) => new Chart(plan, this.theme, this.view, isAlone ? null : this.labelOf(i, plans)),
    );
    this.setAxes();
    Object.assign(this.view, this.all);
    this.active = plans.length - 1; // whose facts are shown
    $("charts").replaceChildren(...this.charts.map((chart) => chart.element));
    for (const chart of this.charts) this.listenTo(chart);
    this.aim = null;
    this.step = this.plan0.peakStep;
    this.search.repeat();
    this.describe();
    this.layOut();
  }

  // What to call a plan among those that are shown: "before: nothing recomputed".
  labelOf(index, plans = this.charts.map((chart) => chart.plan)) {
    const { title } = plans[index];
    if (this.tab !== "compare") return title;
    const name = ["before", "after"][index];
    return title === name ? name : `${name}: ${title}`;
  }

  // Places of steps and bytes in all charts, on one scale.
  setAxes() {
    const plans = this.charts.map((chart) => chart.plan);
    const unit = this.isTime ? unitOf(plans) : null;
    const hasKept = plans.some((plan) => keptBuffers(plan).length > 0);
    const isFolded = hasKept && (this.isFolded ?? areFoldedAtFirst(plans));
    const axes = axesOf(plans, unit);
    const bytes = byteAxesOf(plans, isFolded);
    this.charts.forEach((chart, i) => chart.setAxes(axes[i], bytes[i], unit));
    const tops = plans.map((plan, i) => bytes[i].heightOf(Math.max(highestByte(plan), plan.peakBytes, 64)));
    this.all = { left: 0, right: axes[0].length || 1, low: 0, high: Math.max(...tops) * 1.03 };
    const live = plans.map((plan, i) => this.charts[i].curveHeight(Math.max(plan.arena_bytes, plan.peakBytes, 64)));
    this.view.curveTop = Math.max(...live) * 1.26;
    $("axis").setAttribute("aria-pressed", String(this.isTime));
    $("fold").setAttribute("aria-pressed", String(isFolded));
    $("fold").disabled = !hasKept;
    // The slider goes from step to step, or in small parts of the time.
    $("slider").max = String(this.isTime ? SLIDER_PARTS : Math.max(this.all.right - 1, 0));
  }

  // Steps as wide as they take, or all as wide; what is seen stays in view.
  switchAxis() {
    const seen = [this.view.left, this.view.right].map((place) => this.axis.fractionAt(place));
    this.isTime = !this.isTime;
    this.setAxes();
    [this.view.left, this.view.right] = seen.map((fraction) => this.axis.placeOf(fraction));
    this.zoom(1, this.view.left, this.view.low, true);
  }

  // Weights and states in one band, or each at its place.
  switchFold() {
    const isFolded = this.charts.some((chart) => chart.bytes.isFolded);
    this.isFolded = !isFolded;
    this.leave();
    this.setAxes();
    this.view.low = this.all.low;
    this.view.high = this.all.high;
    this.redrawSoon();
  }

  // The axis of the plan whose steps are counted.
  get axis() {
    return this.charts[this.active ?? 0].axis;
  }

  // Facts that do not change with step, pin or view.
  describe() {
    const plan = this.plan0;
    $("subtitle").textContent = subtitle(plan);
    $("tiles").replaceChildren(...tiles(plan));
    this.makeLegend();
    $("memories").replaceChildren(
      ...(plan.isArenaAlone ? [] : [element("h2", "", "Memories"), memoryTable(plan)]),
    );
    $("at-peak").replaceChildren(element("h2", "", "By kind at the peak"), kindBars(plan, plan.peakStep));
    for (const part of this.parts) part.show(plan);
    const said = this.tab === "compare" ? [] : plan.sentences; // there the comparison says it
    $("sentences").replaceChildren(
      ...(said.length ? [element("h2", "", "What limits it")] : []),
      ...said.map((sentence) => element("p", "", sentence)),
    );
  }

  makeLegend() {
    const { kinds } = this.page.vocabulary;
    const isUsed = kinds.map((_, k) =>
      this.charts.some(({ plan }) => plan.segmentKind.includes(k)),
    );
    $("legend").replaceChildren(
      ...kinds.flatMap((kind, k) => {
        if (!isUsed[k]) return [];
        const button = element("button", "", swatch(this.plan0, k), inWords(kind));
        button.type = "button";
        button.setAttribute("aria-pressed", String(this.kind === k));
        button.addEventListener("click", () => {
          this.kind = this.kind === k ? -1 : k;
          this.makeLegend();
          $("legend").querySelector('[aria-pressed="true"]')?.focus();
          this.refresh();
        });
        return [element("li", "", button)];
      }),
    );
  }

  applyTheme() {
    const { theme } = this;
    const style = document.documentElement.style;
    const isDark = this.themeName === "dark";
    style.colorScheme = this.themeName;
    theme.kinds.forEach((colour, k) => style.setProperty(`--kind-${k}`, colour));
    style.setProperty("--page", theme.page);
    style.setProperty("--card", isDark ? mix(theme.page, theme.ink, 0.06) : theme.page);
    style.setProperty("--free", theme.free);
    style.setProperty("--ink", theme.ink);
    style.setProperty("--pale-ink", theme.paleInk);
    style.setProperty("--rule", theme.rule);
    style.setProperty("--bound", theme.bound);
    style.setProperty("--hatch", theme.hatch);
    style.setProperty("--focus", theme.kinds[0]);
    $("theme").textContent = isDark ? "Light" : "Dark";
    for (const chart of this.charts) chart.theme = theme;
  }

  chooseTheme() {
    this.isThemeChosen = true;
    this.switchTheme();
    this.links.followSoon();
  }

  switchTheme() {
    this.themeName = this.themeName === "dark" ? "light" : "dark";
    this.applyTheme();
    this.redraw();
    this.drawFrontTab();
  }

  // -- drawing ---------------------------------------------------------------------------

  layOut() {
    if (!this.charts.length) return;
    const full = $("stage").clientWidth;
    const isBeside = this.isSideBySide;
    const width = isBeside ? Math.floor((full - 16) / 2) : full;
    const isPhone = window.innerWidth <= 720;
    const room = windowHeight() - (this.tab === "front" ? 572 : 404);
    const height = isPhone ? 440 : Math.min(Math.max(room, 430), 900);
    for (const chart of this.charts) chart.resize(width, height);
    const { left } = this.charts[0].area;
    $("slider-row").style.paddingLeft = isBeside ? "0" : `${left}px`;
    $("slider-row").style.paddingRight = isBeside ? "0" : "10px";
    this.drawFrontTab();
    this.graph.resize();
    this.redraw();
  }

  drawFrontTab() {
    if (this.tab !== "front") return;
    const choose = (index) => {
      this.chosen = index;
      this.show("front").then(() => $("front").querySelector(".chosen")?.focus());
    };
    const said = element("p", "pale", "");
    const tell = (index) => {
      said.textContent = `${index === null ? "Shown: " : ""}${frontText(this.page, index ?? this.chosen)}`;
    };
    tell(null);
    $("front").replaceChildren(
      drawFront(this.page, this.chosen, $("content").clientWidth, choose, tell),
      said,
      element("p", "pale", `${this.page.front.length} plans; choose a point to see its plan.`),
    );
  }

  redraw() {
    for (const chart of this.charts) chart.draw();
    this.refresh();
  }

  // Draw what depends on step, pin, search and kind, once for the next frame.
  refresh() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.drawOverlays();
      this.fillPanel();
      for (const part of this.parts) part.follow();
    });
  }

  redrawSoon() {
    if (this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      this.isDrawing = false;
      this.redraw();
    });
  }

  drawOverlays() {
    const cursor = { left: this.axis.begin[this.step], right: this.axis.end[this.step] };
    for (const chart of this.charts) {
      const hover = this.aim?.chart === chart ? this.aim.segment : -1;
      const isBandHovered = this.bandAim === chart;
      const pinned = this.pin === null ? null : chart.plan.livesOf(chart.plan.nameNumber(this.pin));
      chart.drawOverlay({ cursor, hover, isBandHovered, pinned, lit: this.litBoxes(chart, pinned) });
    }
  }

  litBoxes(chart, pinned) {
    const { plan } = chart;
    if (pinned) return pinned.map((tensor) => chart.lifeBox(tensor));
    const found = this.search.in(plan);
    const layer = this.pin === null && this.layer !== null ? this.layer : null;
    if (!found && this.kind < 0 && layer === null) return null;
    const boxes = [];
    for (let i = 0; i < plan.nSegments && boxes.length < MOST_LIT; i++) {
      if (this.kind >= 0 && plan.segmentKind[i] !== this.kind) continue;
      if (layer !== null && plan.words[plan.tensorLayer[plan.segmentTensor[i]]] !== layer) continue;
      if (found && !found.has(plan.tensorName[plan.segmentTensor[i]])) continue;
      boxes.push(chart.segmentBox(i));
    }
    return boxes;
  }

  fillPanel() {
    const plan = this.plan0;
    const step = Math.min(this.step, plan.nSteps - 1);
    const place = this.axis.begin[step];
    $("slider").value = String(this.isTime ? (SLIDER_PARTS * this.axis.middle(step)) / this.axis.length : place);
    const takes = this.isTime ? `, ${formatCost(plan.costs[this.unit][step], this.unit)}` : "";
    const text = `step ${formatCount(step)} of ${formatCount(plan.nSteps)}: ${describeStep(plan, step)}${takes}`;
    $("step-text").textContent = text;
    $("slider").setAttribute("aria-valuetext", text);
    this.fillPinned(plan, step);
    const free = formatPercent(plan.fragmentationAt(step));
    const beside = plan.constant_bytes ? `; beside it ${formatBytes(plan.constant_bytes)} of constants` : "";
    $("alive").replaceChildren(
      element("h2", "", `Alive at step ${formatCount(step)}${this.tab === "compare" ? ` (${this.labelOf(this.active)})` : ""}`),
      element("p", "pale", `${formatBytes(plan.live[step] ?? 0)}; ${free} free below the highest${beside}`),
      aliveList(plan, step, (name) => this.setPin(name), this.pin),
    );
  }

  get unit() {
    return this.charts[0].unit;
  }

  // The step of another plan that stands where the step of this one does.
  stepIn(chart) {
    return chart.axis.nearest(this.axis.middle(Math.min(this.step, this.plan0.nSteps - 1)));
  }

  // The pinned tensor, or the one that keys or a tap chose; in a comparison in both plans.
  fillPinned(plan, step) {
    let shown = this.aim?.isByKeys ? this.aim.chart.plan : plan;
    let tensor = -1;
    let heading = "Tensor";
    if (this.pin !== null) {
      shown = [plan, ...this.charts.map((chart) => chart.plan)].find((p) => p.nameNumber(this.pin) >= 0);
      const lives = shown ? shown.livesOf(shown.nameNumber(this.pin)) : [];
      const now = lives.find((t) => shown.tensorStart[t] <= step && step < shown.tensorStop[t]);
      tensor = now ?? lives[0] ?? -1;
      heading = "Pinned";
    } else if (this.aim?.isByKeys) tensor = shown.segmentTensor[this.aim.segment];
    if (tensor < 0) {
      $("pinned").replaceChildren();
      return;
    }
    const isBoth = this.tab === "compare";
    const steps = isBoth ? this.charts.map((chart) => this.stepIn(chart)) : "";
    const key = `${this.pin} ${tensor} ${this.charts.map((c) => c.plan).indexOf(shown)} ${steps}`;
    if ($("pinned").dataset.key === key && $("pinned").childElementCount) return;
    $("pinned").dataset.key = key;
    const head = element("div", "panel-head", element("h2", "", heading));
    const button = element("button", "", this.pin === null ? "Pin" : "Let go");
    button.type = "button";
    const name = shown.nameOf(tensor);
    button.addEventListener("click", () => this.setPin(this.pin === null ? name : null));
    head.append(button);
    const cards = isBoth ? this.charts.map((_, i) => this.cardIn(i, name)) : [tensorCard(shown, tensor)];
    $("pinned").replaceChildren(head, ...cards);
  }

  // The card of a tensor in one of the plans that are compared, in the life that is alive
  // at the step or else begins next.
  cardIn(index, name) {
    const chart = this.charts[index];
    const { plan } = chart;
    const lives = plan.livesOf(plan.nameNumber(name));
    const step = this.stepIn(chart);
    const tensor = lives.find((t) => step < plan.tensorStop[t]) ?? lives[lives.length - 1];
    const label = element("p", "plan-label", this.labelOf(index));
    const card = lives.length ? tensorCard(plan, tensor) : element("p", "pale", `${name} is not in this plan.`);
    return element("div", "plan-card", label, card);
  }

  // -- what people do --------------------------------------------------------------------

  setStep(step) {
    this.step = Math.min(Math.max(Math.round(step), 0), this.plan0.nSteps - 1);
    const { left, right } = this.view;
    const place = this.axis.begin[this.step];
    if (place < left || place >= right) this.moveView(this.axis.middle(this.step) - (left + right) / 2, 0);
    this.refresh();
  }

  setPin(name) {
    this.pin = this.pin === name ? null : name;
    this.layer = null;
    this.hideCard();
    this.refresh();
  }

  // Pin a tensor, and go to a step at which it is alive, or one life of it.
  select(name, tensor = null) {
    this.pin = name;
    this.layer = null;
    const plan = this.plan0;
    const lives = tensor === null ? plan.livesOf(plan.nameNumber(name)) : [tensor];
    const isAlive = lives.some((t) => plan.tensorStart[t] <= this.step && this.step < plan.tensorStop[t]);
    if (lives.length && !isAlive) this.setStep(plan.tensorStart[lives[0]]);
    this.refresh();
  }

  // Show the tensors of a layer alone; the same again lets it go.
  chooseLayer(name) {
    this.layer = this.layer === name && this.pin === null ? null : name;
    this.pin = null;
    this.hideCard();
    this.refresh();
  }

  isSelected(plan, tensor) {
    if (this.pin !== null) return plan.nameOf(tensor) === this.pin;
    return this.layer !== null && plan.words[plan.tensorLayer[tensor]] === this.layer;
  }

  letGo() {
    this.pin = null;
    this.layer = null;
    this.aim = null;
    this.kind = -1;
    this.search.clear();
    this.hideCard();
    this.makeLegend();
  }

  goToPeak() {
    this.aim = null;
    this.setStep(this.plan0.peakStep);
  }

  fit() {
    Object.assign(this.view, this.all);
    this.redrawSoon();
  }

  // Zoom by a factor (below 1: closer) and keep a place and a height where they are.
  zoom(factor, place, height, isTimeOnly = false) {
    const { view, all } = this;
    const least = Math.min(this.axis.least, all.right);
    const across = Math.min(Math.max((view.right - view.left) * factor, least), all.right - all.left);
    const ratio = across / (view.right - view.left);
    view.left = place - (place - view.left) * ratio;
    view.right = view.left + across;
    if (!isTimeOnly) {
      const up = Math.min(Math.max((view.high - view.low) * factor, 256), all.high - all.low);
      const grown = up / (view.high - view.low);
      view.low = height - (height - view.low) * grown;
      view.high = view.low + up;
    }
    this.moveView(0, 0);
  }

  zoomAtMiddle(factor) {
    const { left, right, low, high } = this.view;
    const place = this.axis.middle(this.step);
    this.zoom(factor, place >= left && place < right ? place : (left + right) / 2, (low + high) / 2);
  }

  // Move by places and heights, within the whole.
  moveView(places, heights) {
    const { view, all } = this;
    const across = view.right - view.left;
    const up = view.high - view.low;
    view.left = Math.min(Math.max(view.left + places, all.left), all.right - across);
    view.right = view.left + across;
    view.low = Math.min(Math.max(view.low + heights, all.low), all.high - up);
    view.high = view.low + up;
    this.redrawSoon();
  }

  // Choose the next tensor by address among those alive at the step.
  aimNext(direction) {
    const chart = this.charts[this.active];
    const { plan } = chart;
    const alive = plan.stackedAt(this.step);
    if (!alive.length) return;
    const low = this.aim ? plan.segmentLow[this.aim.segment] : direction > 0 ? -1 : Infinity;
    const next =
      direction > 0
        ? alive.find((i) => plan.segmentLow[i] > low)
        : alive.findLast((i) => plan.segmentLow[i] < low);
    const segment = next ?? (direction > 0 ? alive[0] : alive[alive.length - 1]);
    this.aim = { chart, segment, isByKeys: true };
    this.refresh();
  }

  // -- pointer ---------------------------------------------------------------------------

  listenTo(chart) {
    const { overlay } = chart;
    const pointers = new Map();
    let moved = 0;
    const place = (event) => {
      const box = overlay.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    overlay.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      pointers.set(event.pointerId, place(event));
      if (pointers.size === 1) moved = 0;
      overlay.setPointerCapture(event.pointerId);
    });
    overlay.addEventListener("pointermove", (event) => {
      const at = place(event);
      const before = pointers.get(event.pointerId);
      if (!before) {
        if (event.pointerType !== "touch") this.hover(chart, at, event);
        return;
      }
      const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      moved += Math.hypot(at.x - before.x, at.y - before.y);
      if (others.length) this.pinch(chart, before, at, others[0]);
      else if (moved > 4) this.drag(chart, before, at);
      pointers.set(event.pointerId, at);
    });
    const end = (event) => {
      const wasDown = pointers.delete(event.pointerId);
      overlay.classList.remove("dragging");
      if (wasDown && moved <= 4 && event.type === "pointerup") this.tap(chart, place(event));
    };
    overlay.addEventListener("pointerup", end);
    overlay.addEventListener("pointercancel", end);
    overlay.addEventListener("pointerleave", () => this.leave());
    overlay.addEventListener("dblclick", (event) => {
      const { x, y } = place(event);
      if (chart.isOnMap(x, y)) this.zoom(0.4, chart.placeAt(x), chart.heightAt(y));
    });
    overlay.addEventListener(
      "wheel",
      (event) => {
        const { x, y } = place(event);
        if (!chart.isOnMap(x, y)) return;
        event.preventDefault();
        const turned = event.deltaY || event.deltaX;
        const factor = Math.exp(Math.sign(turned) * Math.min(Math.abs(turned), 120) * 0.0022);
        this.zoom(factor, chart.placeAt(x), chart.heightAt(y), event.shiftKey);
      },
      { passive: false },
    );
  }

  hover(chart, { x, y }, event) {
    if (chart.isOnBand(x, y)) {
      if (this.bandAim !== chart) {
        this.leave();
        this.bandAim = chart;
        $("card").replaceChildren(...this.labelled(chart, bandCard(chart.plan)));
        this.drawOverlays();
      }
      this.placeCard(event.clientX, event.clientY);
      return;
    }
    if (this.bandAim) this.leave();
    const segment = chart.segmentUnder(x, y);
    const isNew = this.aim?.chart !== chart || this.aim?.segment !== segment;
    if (segment < 0) {
      this.leave();
      return;
    }
    if (isNew || this.aim.isByKeys) {
      this.aim = { chart, segment, isByKeys: false };
      $("card").replaceChildren(
        ...this.labelled(chart, tensorCard(chart.plan, chart.plan.segmentTensor[segment])),
      );
      this.drawOverlays();
    }
    this.placeCard(event.clientX, event.clientY);
  }

  // A card, below the name of its plan where there are two.
  labelled(chart, card) {
    if (this.tab !== "compare") return [card];
    return [element("p", "plan-label", this.labelOf(this.charts.indexOf(chart))), card];
  }

  placeCard(x, y) {
    const card = $("card");
    card.hidden = false;
    const { width, height } = card.getBoundingClientRect();
    const left = x + 18 + width > window.innerWidth - 8 ? x - width - 18 : x + 18;
    const top = Math.min(y + 14, window.innerHeight - height - 8);
    card.style.left = `${Math.max(left, 8)}px`;
    card.style.top = `${Math.max(top, 8)}px`;
  }

  hideCard() {
    $("card").hidden = true;
  }

  leave() {
    this.hideCard();
    const isBand = Boolean(this.bandAim);
    this.bandAim = null;
    if (this.aim && !this.aim.isByKeys) this.aim = null;
    else if (!isBand) return;
    this.drawOverlays();
  }

  tap(chart, { x, y }) {
    if (!chart.isInside(x)) return;
    if (chart.isOnBand(x, y)) {
      this.switchFold();
      return;
    }
    this.active = this.charts.indexOf(chart);
    const segment = chart.segmentUnder(x, y);
    this.setStep(chart.axis.nearest(chart.placeAt(x)));
    if (segment >= 0) this.setPin(chart.plan.nameOf(chart.plan.segmentTensor[segment]));
    else if (chart.isOnMap(x, y)) this.setPin(null);
    this.describe();
  }

  drag(chart, from, to) {
    chart.overlay.classList.add("dragging");
    this.hideCard();
    this.moveView(chart.placeAt(from.x) - chart.placeAt(to.x), chart.heightAt(from.y) - chart.heightAt(to.y));
  }

  pinch(chart, from, to, fixed) {
    const before = Math.hypot(from.x - fixed.x, from.y - fixed.y);
    const after = Math.hypot(to.x - fixed.x, to.y - fixed.y);
    if (after > 8 && before > 8) this.zoom(before / after, chart.placeAt(fixed.x), chart.heightAt(fixed.y));
  }

  // -- keys and buttons ------------------------------------------------------------------

  listen() {
    $("theme").addEventListener("click", () => this.chooseTheme());
    $("help-button").addEventListener("click", () => $("help").showModal());
    $("zoom-in").addEventListener("click", () => this.zoomAtMiddle(0.6));
    $("zoom-out").addEventListener("click", () => this.zoomAtMiddle(1 / 0.6));
    $("fit").addEventListener("click", () => this.fit());
    $("peak").addEventListener("click", () => this.goToPeak());
    const title = () => (this.tab === "front" ? this.plan0.title : this.page.title);
    $("save-svg").addEventListener("click", () => saveSvg(this.charts, this.isSideBySide, title(), this.theme));
    $("save-png").addEventListener("click", () => savePng(this.charts, this.isSideBySide, title(), this.theme));
    $("slider").addEventListener("input", () => {
      const value = Number($("slider").value);
      const place = this.isTime ? (value / SLIDER_PARTS) * this.axis.length : value;
      this.setStep(this.axis.nearest(place));
    });
    $("axis").addEventListener("click", () => this.switchAxis());
    $("fold").addEventListener("click", () => this.switchFold());
    document.addEventListener("keydown", (event) => this.key(event));
    let timer = 0;
    window.addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.layOut(), 60);
    });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    const { target } = event;
    const isSlider = target === $("slider");
    const isButton = target.tagName === "BUTTON";
    const action = this.actionOf(event, isSlider, isButton);
    if (!action) return;
    event.preventDefault();
    action();
  }

  actionOf(event, isSlider, isButton) {
    const far = event.shiftKey ? 10 : 1;
    const across = (this.view.right - this.view.left) / 10;
    const up = (this.view.high - this.view.low) / 10;
    const actions = {
      ArrowLeft: () => this.setStep(this.step - far),
      ArrowRight: () => this.setStep(this.step + far),
      Escape: () => this.letGo(),
      p: () => this.goToPeak(),
      "+": () => this.zoomAtMiddle(0.6),
      "=": () => this.zoomAtMiddle(0.6),
      "-": () => this.zoomAtMiddle(1 / 0.6),
      f: () => this.fit(),
      0: () => this.fit(),
      a: () => this.moveView(-across, 0),
      d: () => this.moveView(across, 0),
      w: () => this.moveView(0, up),
      s: () => this.moveView(0, -up),
      b: () => this.table.toggle(),
      g: () => this.graph.toggle(),
      l: () => this.links.copy(),
      t: () => this.chooseTheme(),
      x: () => this.switchAxis(),
      z: () => !$("fold").disabled && this.switchFold(),
      "/": () => $("search").focus(),
      "?": () => $("help").showModal(),
    };
    if (!isSlider && !isButton) {
      actions.ArrowUp = () => this.aimNext(1);
      actions.ArrowDown = () => this.aimNext(-1);
      actions.Enter = () => this.pinAimed();
    }
    return actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  }

  pinAimed() {
    if (!this.aim || this.aim.segment < 0) return;
    const { plan } = this.aim.chart;
    this.setPin(plan.nameOf(plan.segmentTensor[this.aim.segment]));
  }
}

function reportFailure(error) {
  const text = "DecompressionStream" in window
    ? `This page could not be read: ${error.message}. Write it again with arena-ckpt report.`
    : "This browser is too old to read the plan: it has no DecompressionStream. Chrome 97, Firefox 113 and Safari 16.4 have it.";
  const message = element("p", "", text);
  message.id = "error";
  $("loading").replaceWith(message);
  throw error;
}

const app = new App(JSON.parse(textOfBase64($("page").textContent)));
// For scripts and tests: resolves to the app when the first map is drawn.
window.arenaViewer = app.start().then(() => app, reportFailure);
