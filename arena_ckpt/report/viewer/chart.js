// One plan: the curve of live bytes, phase bands, the map, and the names of layers.

const STACK = [
  "weight",
  "optimizer_state",
  "workspace",
  "data",
  "gradient",
  "activation",
  "recomputed_activation",
  "derivative",
]; // from below: first what is there all the time
const MOST_VECTORS = 20000; // rectangles in an SVG; beyond, their picture
const MOST_LABELS = 400;
const LABELS_APART = 13; // pixels

class Chart {
  constructor(plan, theme, view, heading) {
    Object.assign(this, { plan, theme, view, heading });
    this.canvas = document.createElement("canvas");
    this.canvas.className = "picture";
    this.overlay = document.createElement("canvas");
    this.overlay.className = "overlay";
    this.overlay.tabIndex = 0;
    this.overlay.setAttribute("role", "application");
    this.overlay.setAttribute(
      "aria-label",
      "memory map: arrow keys choose step and tensor, Enter pins, plus and minus zoom, question mark lists all keys",
    );
    this.element = document.createElement("div");
    this.element.className = "chart";
    this.element.append(this.canvas, this.overlay);
    this.hatchedKind = plan.vocabulary.kinds.indexOf("recomputed_activation");
  }

  // Where steps and bytes are on the axes; `unit` of the costs, or null where steps are
  // all as wide.
  setAxes(axis, bytes, unit) {
    const { plan } = this;
    Object.assign(this, { axis, bytes, unit });
    this.gaps = plan.gaps.map((gap) => gap.map((byte) => bytes.heightOf(byte)));
    if (bytes.isFolded) this.gaps.push([bytes.band, bytes.base]);
    const n = plan.nSegments;
    this.segmentLeft = new Float64Array(n);
    this.segmentRight = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      this.segmentLeft[i] = axis.begin[plan.segmentStart[i]];
      this.segmentRight[i] = axis.end[plan.segmentStop[i] - 1];
    }
    this.segmentLow = plan.segmentLow;
    this.segmentHigh = plan.segmentHigh;
    this.kept = bytes.isFolded ? keptFacts(plan) : null;
    if (!bytes.isFolded) return;
    this.segmentLow = plan.segmentLow.map((byte) => bytes.heightOf(byte));
    this.segmentHigh = plan.segmentHigh.map((byte, i) =>
      this.kept.isKept[plan.segmentBuffer[i]] ? -1 : bytes.heightOf(byte),
    );
  }

  isInBand(buffer) {
    return this.kept !== null && this.kept.isKept[buffer] === 1;
  }

  // Where things are, in CSS pixels.
  resize(width, height, ratio = Math.min(window.devicePixelRatio || 1, 3)) {
    this.width = width;
    this.height = height;
    const isNarrow = width < 520;
    const left = (isNarrow ? 58 : 74) + (this.view.hasNames ? 14 : 0);
    const curve = isNarrow ? 78 : 104;
    const names = this.namesRoom(isNarrow ? 62 : 78);
    const heading = this.heading ? 26 : 0;
    this.area = { left, width: Math.max(width - left - 10, 40) };
    this.curve = { top: heading + 2, height: curve };
    this.bands = { top: heading + curve + 12, height: 20 };
    this.map = { top: this.bands.top + 22 };
    this.map.height = Math.max(height - this.map.top - names - 22, 60);
    this.namesTop = this.map.top + this.map.height;
    this.namesHeight = names;
    this.ratio = ratio;
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
  }

  // How high the names of layers stand, written upwards.
  namesRoom(most) {
    const { plan } = this;
    let longest = 0;
    for (const layer of new Set(plan.stepLayer.subarray(0, 2000))) {
      longest = Math.max(longest, textWidth(plan.words[layer], 11));
    }
    return Math.min(Math.max(longest + 14, 24), most);
  }

  // Pixels of a place on the axis of steps, and of a height on that of bytes.
  xAt(place) {
    const { left, right } = this.view;
    return this.area.left + ((place - left) / (right - left)) * this.area.width;
  }

  yAt(height) {
    const { low, high } = this.view;
    return this.map.top + this.map.height * (1 - (height - low) / (high - low));
  }

  placeAt(x) {
    const { left, right } = this.view;
    return left + ((x - this.area.left) / this.area.width) * (right - left);
  }

  heightAt(y) {
    const { low, high } = this.view;
    return low + (1 - (y - this.map.top) / this.map.height) * (high - low);
  }

  // Pixels where a step begins and where it ends.
  xOf(step) {
    return this.xAt(this.axis.begin[step]);
  }

  xEnd(step) {
    return this.xAt(this.axis.end[step]);
  }

  yOf(byte) {
    return this.yAt(this.bytes.heightOf(byte));
  }

  // The first step that is seen, and the one behind the last.
  get seenSteps() {
    const { axis, view } = this;
    return [Math.max(axis.at(view.left), 0), Math.min(axis.at(view.right) + 1, this.plan.nSteps)];
  }

  isOnBand(x, y) {
    return Boolean(this.kept?.all) && this.isOnMap(x, y) && this.heightAt(y) < this.bytes.band;
  }

  isInside(x) {
    return x >= this.area.left && x < this.area.left + this.area.width;
  }

  isOnMap(x, y) {
    return this.isInside(x) && y >= this.map.top && y < this.map.top + this.map.height;
  }

  // The segment under a point in CSS pixels, or -1.
  segmentUnder(x, y) {
    if (!this.isOnMap(x, y) || this.isOnBand(x, y)) return -1;
    const { axis, bytes } = this;
    const place = this.placeAt(x);
    const height = this.heightAt(y);
    if (height < bytes.base || place >= axis.length) return -1;
    const segment = this.plan.segmentAt(axis.at(place), bytes.byteAt(height));
    return segment >= 0 && place < this.segmentRight[segment] ? segment : -1; // or ends at a gap
  }

  draw() {
    const { canvas, ratio, area, map } = this;
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.theme.page;
    context.fillRect(0, 0, canvas.width, canvas.height);
    const painted = this.paint();
    context.putImageData(painted.image, Math.round(area.left * ratio), Math.round(map.top * ratio));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawAround(new CanvasPen(context), painted.large);
  }

  // The same chart on canvases of its own with so many pixels for each of CSS.
  drawnAt(ratio) {
    const other = new Chart(this.plan, this.theme, this.view, this.heading);
    other.setAxes(this.axis, this.bytes, this.unit);
    other.resize(this.width, this.height, ratio);
    other.draw();
    if (this.shown) other.drawOverlay(this.shown);
    return other;
  }

  paint() {
    const { area, map, ratio } = this;
    return paintMap(this, Math.round(area.width * ratio), Math.round(map.height * ratio));
  }

  // Draw as SVG: the rectangles themselves where they are not too many.
  drawSvg(pen) {
    const { plan, area, map, view } = this;
    const painted = this.paint();
    const visible = [];
    for (let i = 0; i < plan.nSegments && visible.length <= MOST_VECTORS; i++) {
      if (this.segmentRight[i] <= view.left || this.segmentLeft[i] >= view.right) continue;
      if (this.segmentHigh[i] <= view.low || this.segmentLow[i] >= view.high) continue;
      visible.push(i);
    }
    if (visible.length > MOST_VECTORS) {
      pen.image(area.left, map.top, area.width, map.height, imageUrl(painted.image));
    } else {
      this.drawBackgroundSvg(pen);
      for (const i of visible) this.drawSegmentSvg(pen, i);
    }
    this.drawAround(pen, painted.large);
  }

  drawBackgroundSvg(pen) {
    const { area, view, theme } = this;
    for (const { low, high, fill } of this.backgrounds()) {
      for (const { left, right, band } of this.bandRuns()) {
        const { x, y, width, height } = this.box(left, right, low, high);
        if (height > 0) pen.rect(x, y, width, height, band === "recompute" ? darker(fill, theme) : fill);
      }
    }
    for (const [low, high] of this.gaps) {
      const { y, height } = this.box(view.left, view.right, low, high);
      if (height > 0) pen.rect(area.left, y, area.width, height, theme.page);
    }
  }

  // Free memory of each memory, from below; above the last as in it.
  backgrounds() {
    const { plan, bytes, theme } = this;
    return plan.memories.map((memory, m) => ({
      low: m ? bytes.heightOf(memory.low) : 0,
      high: m + 1 < plan.memories.length ? bytes.heightOf(plan.memories[m + 1].low) : Infinity,
      fill: theme.memories[m % theme.memories.length],
    }));
  }

  drawSegmentSvg(pen, i) {
    const { x, y, width, height } = this.segmentBox(i);
    const gap = Math.min(width, height) >= FRAME_FROM ? 0.75 : 0;
    const fill = this.theme.kinds[this.plan.segmentKind[i]];
    const name = this.plan.nameOf(this.plan.segmentTensor[i]);
    pen.rect(x, y + gap, width - gap, height - gap, fill, 1, name);
    if (this.plan.segmentKind[i] === this.hatchedKind && gap) {
      pen.hatch(x, y + gap, width - gap, height - gap, this.theme.hatch);
    }
  }

  // The visible part of a box of places and heights.
  box(left, right, low, high) {
    const { view, area, map } = this;
    const x = this.xAt(Math.max(left, view.left));
    const y = this.yAt(Math.min(high, view.high));
    const width = Math.min(this.xAt(right), area.left + area.width) - x;
    const height = Math.min(this.yAt(low), map.top + map.height) - y;
    return { x, y, width, height };
  }

  get bandBox() {
    return this.box(0, this.axis.length, 0, this.bytes.band);
  }

  segmentBox(i) {
    if (this.isInBand(this.plan.segmentBuffer[i])) return this.bandBox;
    return this.box(this.segmentLeft[i], this.segmentRight[i], this.segmentLow[i], this.segmentHigh[i]);
  }

  lifeBox(tensor) {
    const { plan, axis, bytes } = this;
    const buffer = plan.tensorBuffer[tensor];
    if (this.isInBand(buffer)) return this.bandBox;
    const ends = plan.endsOf(buffer).map((byte) => bytes.heightOf(byte));
    return this.box(axis.begin[plan.tensorStart[tensor]], axis.end[plan.tensorStop[tensor] - 1], ...ends);
  }

  drawAround(pen, large) {
    if (this.heading) {
      const size = formatBytes(this.plan.arena_bytes);
      const room = this.width - this.area.left - textWidth(size, 13) - 20;
      const name = fitText(this.heading, 13, room, 600);
      pen.text(this.area.left, 12, name, { size: 13, fill: this.theme.ink, weight: 600 });
      const at = this.area.left + textWidth(name, 13, 600) + 10;
      pen.text(at, 12, size, { size: 13, fill: this.theme.paleInk });
    }
    this.drawCurve(pen);
    this.drawBands(pen);
    this.drawNamesInside(pen, large);
    this.drawFolded(pen);
    this.drawLevels(pen);
    if (this.plan.isArenaAlone) this.drawByteTicks(pen);
    else drawMemories(pen, this);
    this.drawLayers(pen);
    this.drawStepTicks(pen);
  }

  // -- the curve ------------------------------------------------------------------------

  // How high so many live bytes stand: those that are folded, which are there at every
  // step and lowest in the stack, as high as their band.
  curveHeight(bytes) {
    const all = this.kept?.all ?? 0;
    return all ? (this.bytes.band * Math.min(bytes, all)) / all + Math.max(bytes - all, 0) : bytes;
  }

  curveY(bytes) {
    return this.curve.top + this.curve.height * (1 - this.curveHeight(bytes) / this.view.curveTop);
  }

  // Columns of the curve: its edges, and the step that is shown there, the fullest one;
  // a list for each stretch without a gap.
  curveColumns() {
    const { plan, axis, area } = this;
    const [first, last] = this.seenSteps;
    const least = 1 / 1.5; // pixels
    const stretches = [];
    let columns = [];
    for (let start = first, fullest = first, step = first; step < last; step++) {
      if (plan.live[step] > plan.live[fullest]) fullest = step;
      const isEnd = step + 1 === last || axis.begin[step + 1] > axis.end[step];
      if (!isEnd && this.xEnd(step) - this.xOf(start) < least) continue;
      const x0 = Math.max(this.xOf(start), area.left);
      const x1 = Math.min(this.xEnd(step), area.left + area.width);
      columns.push({ x0, x1, step: fullest });
      start = fullest = step + 1;
      if (!isEnd) continue;
      stretches.push(columns);
      columns = [];
    }
    return stretches;
  }

  drawCurve(pen) {
    for (const columns of this.curveColumns()) this.drawKindsOf(pen, columns);
    this.drawCurveLines(pen);
  }

  drawKindsOf(pen, columns) {
    const { plan, theme } = this;
    const below = new Float64Array(columns.length);
    for (const name of STACK) {
      const kind = plan.vocabulary.kinds.indexOf(name);
      const bytes = plan.liveByKind[kind];
      if (!columns.some(({ step }) => bytes[step])) continue;
      const over = [];
      const under = [];
      columns.forEach(({ x0, x1, step }, i) => {
        const low = this.curveY(below[i]);
        const high = this.curveY((below[i] += bytes[step]));
        over.push(x0, high, x1, high);
        under.push(low, x0, low, x1);
      });
      pen.area([...over, ...under.reverse()], theme.kinds[kind]);
    }
  }

  drawCurveLines(pen) {
    const { plan, theme, area, curve } = this;
    const right = area.left + area.width;
    const { arena_bytes: arena, live_lower_bound_bytes: bound } = plan;
    const local = plan.local_lower_bound_bytes;
    pen.line(area.left, curve.top + curve.height, right, curve.top + curve.height, theme.rule);
    if (this.kept?.all) this.drawBreak(pen, this.curveY(this.kept.all));
    pen.text(area.left - 8, this.curveY(0) - 6, "0", { size: 11, fill: theme.paleInk, align: "right" });
    const label = formatBytes(arena);
    pen.text(area.left - 8, this.curveY(arena), label, { size: 11, fill: theme.paleInk, align: "right" });
    pen.line(area.left, this.curveY(arena), right, this.curveY(arena), theme.ink, 1.25);
    const isNarrow = area.width < 420;
    const words = arena === bound ? (isNarrow ? "arena = bound" : "arena = live lower bound") : "arena";
    let end = right - 2;
    const y = this.curveY(Math.max(arena, bound)) - 8;
    const put = (text, fill) => {
      pen.text(end, y, text, { size: 11, fill, align: "right" });
      end -= textWidth(text, 11) + 14;
    };
    if (arena !== bound) {
      pen.line(area.left, this.curveY(bound), right, this.curveY(bound), theme.bound, 1.25, [5, 4]);
      put(isNarrow ? "– – live bound" : "– –  live lower bound", theme.bound);
    }
    if (local < bound) {
      pen.line(area.left, this.curveY(local), right, this.curveY(local), theme.ink, 1, [1, 3]);
      put(isNarrow ? "··· local bound" : "···  local lower bound", theme.paleInk);
    }
    put(words, theme.ink);
    const x = this.xAt(this.axis.middle(plan.peakStep));
    if (this.isInside(x)) {
      pen.dot(x, this.curveY(plan.peakBytes), 3.5, theme.bound, theme.page);
      const isLeft = x < area.left + 60;
      const at = { size: 11, fill: theme.bound, weight: 600, align: isLeft ? "left" : "center" };
      if (x + 18 < end) pen.text(isLeft ? x + 6 : x, y, "peak", at);
    }
  }

  // -- bands, levels, axes ---------------------------------------------------------------

  // Stretches of steps of one part of the iteration, without gaps, as far as they are seen.
  bandRuns() {
    const { plan, view, axis } = this;
    const runs = [];
    const [first, last] = this.seenSteps;
    for (let step = first, start = first; step < last; step++) {
      const isSame = step + 1 < last && plan.stepBand[step + 1] === plan.stepBand[step];
      if (isSame && axis.begin[step + 1] <= axis.end[step]) continue;
      runs.push({
        band: plan.vocabulary.bands[plan.stepBand[step]],
        left: Math.max(axis.begin[start], view.left),
        right: Math.min(axis.end[step], view.right),
      });
      start = step + 1;
    }
    return runs;
  }

  drawBands(pen) {
    const { bands, theme, map } = this;
    const fills = {
      forward: mix(theme.page, theme.ink, 0.08),
      recompute: mix(theme.page, theme.kinds[this.hatchedKind], 0.55),
      backward: mix(theme.page, theme.ink, 0.16),
      update: mix(theme.page, theme.ink, 0.04),
    };
    const runs = this.bandRuns();
    for (const { band, left, right } of runs) {
      const x = this.xAt(left);
      const width = this.xAt(right) - x;
      pen.rect(x, bands.top, width, bands.height, fills[band]);
      if (left > 0 && runs.length < 200) {
        pen.line(x, bands.top, x, map.top + map.height, mix(theme.free, theme.ink, 0.25), 0.75);
      }
      const ink = band === "recompute" ? inkOn(fills[band]) : theme.ink;
      const isFitting = textWidth(band, 11) + 8 <= width;
      const text = isFitting ? band : width > 14 ? band[0].toUpperCase() : "";
      if (text) {
        pen.text(x + width / 2, bands.top + 10, text, { size: 11, fill: ink, align: "center" });
      }
    }
  }

  drawLevels(pen) {
    const { theme, area, plan, view, map } = this;
    const right = area.left + area.width;
    const levels = [[plan.arena_bytes, theme.ink, []]];
    if (plan.live_lower_bound_bytes < plan.arena_bytes && plan.nRams === 1) {
      levels.push([plan.live_lower_bound_bytes, theme.bound, [5, 4]]);
    }
    for (const [bytes, stroke, dash] of levels) {
      const height = this.bytes.heightOf(bytes);
      if (height < view.low || height > view.high) continue;
      pen.line(area.left, this.yAt(height), right, this.yAt(height), stroke, 1.25, dash);
    }
    pen.line(area.left, map.top + map.height, right, map.top + map.height, theme.paleInk);
  }

  drawByteTicks(pen) {
    const { view, map, bytes } = this;
    const apart = ticksApart(view.high - view.low, Math.max(Math.floor(map.height / 44), 2));
    const low = bytes.byteAt(Math.max(view.low, bytes.base));
    const found = multiples(apart, low, bytes.byteAt(view.high));
    let lastY = Infinity;
    if (bytes.isFolded && view.low <= bytes.base) {
      lastY = this.yAt(bytes.base); // the first byte above the band
      this.writeBytes(pen, formatBytes(low), lastY);
    }
    for (const byte of found) {
      const y = this.yOf(byte);
      if (bytes.isTakenOut(byte) || lastY - y < LABELS_APART) continue;
      this.drawByteTick(pen, byte, y);
      lastY = y;
    }
  }

  // The band of weights and states, with its kinds one above the other, and where the
  // axis has a break.
  drawFolded(pen) {
    const { kept, theme, plan, area, map, bytes, view } = this;
    if (!kept) return;
    const { kinds } = plan.vocabulary;
    let low = 0;
    for (const kind of FOLDED_KINDS) {
      const k = kinds.indexOf(kind);
      const high = low + (kept.all ? (bytes.band * kept.bytes[k]) / kept.all : 0);
      const { x, y, width, height } = this.box(0, this.axis.length, low, high);
      if (height > 0 && width > 0) pen.rect(x, y, width, height, theme.kinds[k]);
      low = high;
    }
    const { y, height } = this.bandBox;
    if (height >= LABELS_APART && kept.all) {
      const text = fitText(bandText(kept, kinds), 11, area.width - 24);
      pen.rect(area.left + 4, y + height / 2 - 8, textWidth(text, 11) + 12, 16, theme.page, 0.9);
      pen.text(area.left + 10, y + height / 2, text, { size: 11, fill: theme.ink });
    }
    for (const [cut] of bytes.cuts) {
      const height = bytes.heightOf(cut);
      if (height < view.low || height > view.high) continue;
      this.drawBreak(pen, Math.min(this.yAt(height), map.top + map.height));
    }
  }

  // Two strokes through an axis that leaves something out.
  drawBreak(pen, y) {
    const { left } = this.area;
    for (const at of [y - 2, y + 2]) pen.line(left - 6, at + 2, left + 2, at - 2, this.theme.ink, 1.25);
  }

  drawByteTick(pen, bytes, y) {
    const { theme, area } = this;
    pen.line(area.left - 4, y, area.left, y, theme.paleInk, 0.75);
    this.writeBytes(pen, tickBytes(bytes), y);
  }

  writeBytes(pen, text, y) {
    pen.text(this.area.left - 8, y, text, { size: 11, fill: this.theme.paleInk, align: "right" });
  }

  drawStepTicks(pen) {
    const { theme, area, view, plan } = this;
    const y = this.namesTop + this.namesHeight + 10;
    const pale = { size: 11, fill: theme.paleInk };
    const name = this.unit === null ? "step" : this.unit === "operations" ? "operations" : "time";
    const short = textWidth(name, 11) > area.left - 8 ? "ops" : name;
    pen.text(area.left - 8, y, short, { ...pale, align: "right" });
    const most = Math.max(Math.floor(area.width / 72), 2);
    if (this.unit !== null) {
      this.drawCostTicks(pen, y, most);
      return;
    }
    const [first, last] = this.seenSteps;
    const apart = ticksApart(last - first, Math.max(most * ((last - first) / (view.right - view.left)), 2), false);
    for (const step of multiples(apart, first, Math.min(last, plan.nSteps) - 1)) {
      const x = this.xAt(this.axis.middle(step));
      if (!this.isInside(x)) continue;
      pen.text(x, y, formatCount(step), { ...pale, align: "center" });
    }
  }

  // Ticks where so much of the costs is spent; steps that take nothing have a width too,
  // so they are not quite even.
  drawCostTicks(pen, y, most) {
    const { theme, area, view, plan, axis, unit } = this;
    const costs = plan.costs[unit];
    const from = axis.costAt(costs, view.left);
    const to = axis.costAt(costs, view.right);
    let free = area.left - 30;
    for (const cost of multiples(ticksApart(to - from, most, false), from, to)) {
      const x = this.xAt(axis.placeOfCost(costs, cost));
      const text = tickCost(cost, unit, to);
      const half = textWidth(text, 11) / 2;
      if (x < area.left - 0.5 || x > area.left + area.width + 0.5) continue;
      if (x - half < free || x + half > this.width) continue;
      pen.line(x, y - 9, x, y - 6, theme.paleInk, 0.75);
      pen.text(x, y, text, { size: 11, fill: theme.paleInk, align: "center" });
      free = x + half + 8;
    }
  }

  // Stretches of steps of one layer, at most as many as there are pixels.
  layerRuns() {
    const { plan, view, area, axis } = this;
    const [first, last] = this.seenSteps;
    const apart = ((view.right - view.left) / area.width) * 12;
    const runs = [];
    let shownTo = -Infinity;
    for (let step = first, start = first; step < last; step++) {
      const next = step + 1;
      const isSame =
        next < last &&
        plan.stepBand[next] === plan.stepBand[step] &&
        axis.begin[next] <= axis.end[step] &&
        (plan.stepPhase[next] < 0 || plan.stepLayer[next] === plan.stepLayer[start]);
      if (isSame) continue;
      const from = Math.max(axis.begin[start], view.left);
      const to = Math.min(axis.end[step], view.right);
      const middle = (from + to) / 2;
      if (middle - shownTo >= apart && plan.stepPhase[start] >= 0) {
        runs.push({ from, to, middle, name: plan.words[plan.stepLayer[start]] });
        shownTo = middle;
      }
      start = next;
    }
    return runs;
  }

  drawLayers(pen) {
    const { theme } = this;
    const top = this.namesTop;
    const runs = this.layerRuns();
    const room = ({ from, to }) => this.xAt(to) - this.xAt(from) - 6;
    const nFlat = runs.filter((run) => textWidth(run.name, 11) <= room(run)).length;
    const isFlat = nFlat >= 0.8 * runs.length;
    for (const run of runs) {
      const x = this.xAt(run.middle);
      pen.line(x, top, x, top + 3, theme.paleInk, 0.75);
      if (isFlat) {
        const name = fitText(run.name, 11, room(run));
        if (name) pen.text(x, top + 13, name, { size: 11, fill: theme.ink, align: "center" });
      } else {
        const name = fitText(run.name, 11, this.namesHeight - 10);
        pen.text(x, top + 7, name, { size: 11, fill: theme.ink, align: "right", turn: true });
      }
    }
  }

  drawNamesInside(pen, large) {
    const { plan, theme } = this;
    const labels = large.length > MOST_LABELS ? large.slice(0, MOST_LABELS) : large;
    for (const i of labels) {
      const { x, y, width, height } = this.segmentBox(i);
      const name = fitText(plan.nameOf(plan.segmentTensor[i]), 11, width - 10);
      if (name.length <= 3) continue;
      const kind = theme.kinds[plan.segmentKind[i]];
      const middle = y + Math.min(height / 2, 12) + 0.5;
      if (plan.segmentKind[i] === this.hatchedKind) {
        pen.rect(x + 3, middle - 6.5, textWidth(name, 11) + 4, 13, kind); // lines run not through it
      }
      pen.text(x + 5, middle, name, { size: 11, fill: inkOn(kind) });
    }
  }

  // -- what moves ------------------------------------------------------------------------

  // cursor: where the step begins and ends; lit: boxes, where only those stay bright;
  // hover: a segment.
  drawOverlay(state) {
    this.shown = state;
    const { cursor, hover, isBandHovered, lit, pinned } = state;
    const { overlay, ratio, area, map, theme, curve } = this;
    const context = overlay.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.save();
    context.beginPath();
    context.rect(area.left, map.top, area.width, map.height);
    context.clip();
    if (lit) this.dimAllBut(context, lit);
    if (pinned) this.outlineLives(context, pinned);
    if (hover >= 0 || isBandHovered) {
      const { x, y, width, height } = isBandHovered ? this.bandBox : this.segmentBox(hover);
      context.strokeStyle = theme.ink;
      context.lineWidth = 2;
      context.strokeRect(x, y, width, height);
    }
    context.restore();
    const x = this.xAt(cursor.left);
    const width = this.xAt(cursor.right) - x;
    const middle = x + width / 2;
    if (this.isInside(middle)) {
      context.fillStyle = theme.ink;
      context.globalAlpha = 0.1;
      const left = Math.max(x, area.left);
      const right = Math.min(x + width, area.left + area.width);
      if (width > 3) context.fillRect(left, curve.top, right - left, this.namesTop - curve.top);
      context.globalAlpha = 0.8;
      context.fillRect(middle - 0.5, curve.top, 1, this.namesTop - curve.top);
      context.globalAlpha = 1;
    }
  }

  dimAllBut(context, boxes) {
    const { map, area, theme } = this;
    context.fillStyle = theme.page;
    context.globalAlpha = 0.72;
    context.fillRect(area.left, map.top, area.width, map.height);
    context.globalAlpha = 1;
    for (const { x, y, width, height } of boxes) {
      if (width <= 0 || height <= 0) continue;
      context.clearRect(x, y, Math.max(width, 1.5), Math.max(height, 1.5));
    }
  }

  // Frame every life, and join each to the next.
  outlineLives(context, lives) {
    const boxes = lives.map((tensor) => this.lifeBox(tensor));
    context.strokeStyle = this.theme.ink;
    context.lineWidth = 1.5;
    for (const { x, y, width, height } of boxes) {
      context.strokeRect(x, y, Math.max(width, 1.5), Math.max(height, 1.5));
    }
    context.setLineDash([4, 3]);
    for (let i = 1; i < boxes.length; i++) {
      const [from, to] = [boxes[i - 1], boxes[i]];
      context.beginPath();
      context.moveTo(from.x + from.width, from.y + from.height / 2);
      context.lineTo(to.x, to.y + to.height / 2);
      context.stroke();
    }
    context.setLineDash([]);
  }
}

function imageUrl(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.toDataURL("image/png");
}
