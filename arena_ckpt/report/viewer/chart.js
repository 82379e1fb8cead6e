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

  // Where things are, in CSS pixels.
  resize(width, height) {
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
    this.ratio = Math.min(window.devicePixelRatio || 1, 3);
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

  xOf(step) {
    const { left, right } = this.view;
    return this.area.left + ((step - left) / (right - left)) * this.area.width;
  }

  yOf(byte) {
    const { low, high } = this.view;
    return this.map.top + this.map.height * (1 - (byte - low) / (high - low));
  }

  stepAt(x) {
    const { left, right } = this.view;
    return left + ((x - this.area.left) / this.area.width) * (right - left);
  }

  byteAt(y) {
    const { low, high } = this.view;
    return low + (1 - (y - this.map.top) / this.map.height) * (high - low);
  }

  isInside(x) {
    return x >= this.area.left && x < this.area.left + this.area.width;
  }

  isOnMap(x, y) {
    return this.isInside(x) && y >= this.map.top && y < this.map.top + this.map.height;
  }

  // The segment under a point in CSS pixels, or -1.
  segmentUnder(x, y) {
    if (!this.isOnMap(x, y)) return -1;
    return this.plan.segmentAt(Math.floor(this.stepAt(x)), this.byteAt(y));
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

  paint() {
    const { plan, view, area, map, ratio, theme } = this;
    const width = Math.round(area.width * ratio);
    const height = Math.round(map.height * ratio);
    return paintMap(plan, view, width, height, ratio, theme, this.hatchedKind);
  }

  // Draw as SVG: the rectangles themselves where they are not too many.
  drawSvg(pen) {
    const { plan, area, map, view } = this;
    const painted = this.paint();
    const visible = [];
    for (let i = 0; i < plan.nSegments && visible.length <= MOST_VECTORS; i++) {
      if (plan.segmentStop[i] <= view.left || plan.segmentStart[i] >= view.right) continue;
      if (plan.segmentHigh[i] <= view.low || plan.segmentLow[i] >= view.high) continue;
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
    const { map, area, view, theme } = this;
    for (const { start, stop, band } of this.bandRuns()) {
      const fill = band === "recompute" ? mix(theme.free, theme.ink, 0.07) : theme.free;
      pen.rect(this.xOf(start), map.top, this.xOf(stop) - this.xOf(start), map.height, fill);
    }
    for (const [low, high] of this.plan.gaps) {
      const { y, height } = this.box(view.left, view.right, low, high);
      if (height > 0) pen.rect(area.left, y, area.width, height, theme.page);
    }
  }

  drawSegmentSvg(pen, i) {
    const { x, y, width, height } = this.segmentBox(i);
    const gap = Math.min(width, height) >= FRAME_FROM ? 0.75 : 0;
    const fill = this.theme.kinds[this.plan.segmentKind[i]];
    const name = this.plan.nameOf(this.plan.segmentTensor[i]);
    pen.rect(x, y + gap, width - gap, height - gap, fill, 1, name);
  }

  // The visible part of a box of steps and bytes.
  box(start, stop, low, high) {
    const { view, area, map } = this;
    const x = this.xOf(Math.max(start, view.left));
    const y = this.yOf(Math.min(high, view.high));
    const width = Math.min(this.xOf(stop), area.left + area.width) - x;
    const height = Math.min(this.yOf(low), map.top + map.height) - y;
    return { x, y, width, height };
  }

  segmentBox(i) {
    const { plan } = this;
    return this.box(plan.segmentStart[i], plan.segmentStop[i], plan.segmentLow[i], plan.segmentHigh[i]);
  }

  lifeBox(tensor) {
    const { plan } = this;
    const ends = plan.endsOf(plan.tensorBuffer[tensor]);
    return this.box(plan.tensorStart[tensor], plan.tensorStop[tensor], ...ends);
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
    this.drawLevels(pen);
    if (this.plan.isArenaAlone) this.drawByteTicks(pen);
    else drawMemories(pen, this);
    this.drawLayers(pen);
    this.drawStepTicks(pen);
  }

  // -- the curve ------------------------------------------------------------------------

  curveTop() {
    return Math.max(this.view.most, 1) * 1.26;
  }

  curveY(bytes) {
    return this.curve.top + this.curve.height * (1 - bytes / this.curveTop());
  }

  // Columns of the curve: left edge, and the step that is shown there, the fullest one.
  curveColumns() {
    const { plan, view, area } = this;
    const first = Math.max(Math.floor(view.left), 0);
    const last = Math.min(Math.ceil(view.right), plan.nSteps);
    const perColumn = Math.max((last - first) / (area.width * 1.5), 1);
    const columns = [];
    for (let from = first; from < last; from += perColumn) {
      const start = Math.floor(from);
      const stop = Math.min(Math.max(Math.floor(from + perColumn), start + 1), last);
      let fullest = start;
      for (let s = start; s < stop; s++) if (plan.live[s] > plan.live[fullest]) fullest = s;
      const x0 = Math.max(this.xOf(start), area.left);
      const x1 = Math.min(this.xOf(stop), area.left + area.width);
      columns.push({ x0, x1, step: fullest });
    }
    return columns;
  }

  drawCurve(pen) {
    const { plan, theme } = this;
    const columns = this.curveColumns();
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
    this.drawCurveLines(pen);
  }

  drawCurveLines(pen) {
    const { plan, theme, area, curve } = this;
    const right = area.left + area.width;
    const { arena_bytes: arena, live_lower_bound_bytes: bound } = plan;
    const local = plan.local_lower_bound_bytes;
    pen.line(area.left, curve.top + curve.height, right, curve.top + curve.height, theme.rule);
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
    const x = this.xOf(plan.peakStep + 0.5);
    if (this.isInside(x)) {
      pen.dot(x, this.curveY(plan.peakBytes), 3.5, theme.bound, theme.page);
      const isLeft = x < area.left + 60;
      const at = { size: 11, fill: theme.bound, weight: 600, align: isLeft ? "left" : "center" };
      if (x + 18 < end) pen.text(isLeft ? x + 6 : x, y, "peak", at);
    }
  }

  // -- bands, levels, axes ---------------------------------------------------------------

  bandRuns() {
    const { plan, view } = this;
    const runs = [];
    const last = Math.min(Math.ceil(view.right), plan.nSteps);
    for (let step = Math.max(Math.floor(view.left), 0), start = step; step < last; step++) {
      if (step + 1 < last && plan.stepBand[step + 1] === plan.stepBand[step]) continue;
      runs.push({
        band: plan.vocabulary.bands[plan.stepBand[step]],
        start: Math.max(start, view.left),
        stop: Math.min(step + 1, view.right),
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
    for (const { band, start, stop } of runs) {
      const x = this.xOf(start);
      const width = this.xOf(stop) - x;
      pen.rect(x, bands.top, width, bands.height, fills[band]);
      if (start > 0 && runs.length < 200) {
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
      if (bytes < view.low || bytes > view.high) continue;
      pen.line(area.left, this.yOf(bytes), right, this.yOf(bytes), stroke, 1.25, dash);
    }
    pen.line(area.left, map.top + map.height, right, map.top + map.height, theme.paleInk);
  }

  drawByteTicks(pen) {
    const { view, map } = this;
    const most = Math.max(Math.floor(map.height / 44), 2);
    for (const bytes of ticks(view.low, view.high, most, true)) this.drawByteTick(pen, bytes, this.yOf(bytes));
  }

  drawByteTick(pen, bytes, y) {
    const { theme, area } = this;
    pen.line(area.left - 4, y, area.left, y, theme.paleInk, 0.75);
    pen.text(area.left - 8, y, tickBytes(bytes), { size: 11, fill: theme.paleInk, align: "right" });
  }

  drawStepTicks(pen) {
    const { theme, area, view, plan } = this;
    const y = this.namesTop + this.namesHeight + 10;
    pen.text(area.left - 8, y, "step", { size: 11, fill: theme.paleInk, align: "right" });
    const most = Math.max(Math.floor(area.width / 72), 2);
    for (const step of ticks(Math.max(view.left, 0), Math.min(view.right, plan.nSteps) - 0.5, most, false)) {
      const x = this.xOf(step + 0.5);
      if (!this.isInside(x)) continue;
      pen.text(x, y, formatCount(step), { size: 11, fill: theme.paleInk, align: "center" });
    }
  }

  // Stretches of steps of one layer, at most as many as there are pixels.
  layerRuns() {
    const { plan, view, area } = this;
    const first = Math.max(Math.floor(view.left), 0);
    const last = Math.min(Math.ceil(view.right), plan.nSteps);
    const apart = ((view.right - view.left) / area.width) * 12;
    const runs = [];
    let shownTo = -Infinity;
    for (let step = first, start = first; step < last; step++) {
      const next = step + 1;
      const isSame =
        next < last &&
        plan.stepBand[next] === plan.stepBand[step] &&
        (plan.stepPhase[next] < 0 || plan.stepLayer[next] === plan.stepLayer[start]);
      if (isSame) continue;
      const from = Math.max(start, view.left);
      const to = Math.min(next, view.right);
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
    const room = ({ from, to }) => this.xOf(to) - this.xOf(from) - 6;
    const nFlat = runs.filter((run) => textWidth(run.name, 11) <= room(run)).length;
    const isFlat = nFlat >= 0.8 * runs.length;
    for (const run of runs) {
      const x = this.xOf(run.middle);
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
      const fill = inkOn(theme.kinds[plan.segmentKind[i]]);
      if (name.length > 3) pen.text(x + 5, y + Math.min(height / 2, 12) + 0.5, name, { size: 11, fill });
    }
  }

  // -- what moves ------------------------------------------------------------------------

  // lit: { boxes, outline } where only those boxes stay bright; hover: a segment.
  drawOverlay({ step, hover, lit, pinned }) {
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
    if (hover >= 0) {
      const { x, y, width, height } = this.segmentBox(hover);
      context.strokeStyle = theme.ink;
      context.lineWidth = 2;
      context.strokeRect(x, y, width, height);
    }
    context.restore();
    const x = this.xOf(step);
    const width = this.xOf(step + 1) - x;
    const middle = x + width / 2;
    if (step < this.plan.nSteps && this.isInside(middle)) {
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
