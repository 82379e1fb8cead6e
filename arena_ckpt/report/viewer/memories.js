// The memories of a plan, stacked as `report/stack.py` says: a byte of RAM is one of the
// axis; constants are squeezed into a band on top.

const LOWEST_WITH_TICKS = 44; // CSS pixels: a lower memory has its name there
const NAME_LINE = 13;
const GAUGE_WIDTH = 5;
const TICKS_APART = 28; // closer than in an arena, so that low memories have some

// The memories from below; a plan that has none but the arena says nothing of them.
function memoriesOf(facts) {
  const arena = { name: "arena", height_bytes: facts.arena_bytes, size_bytes: null, is_constant: false };
  return facts.memories ?? [{ ...arena, low: 0, high: facts.arena_bytes }];
}

// How high a byte of a memory is on the axis.
function scaleOf({ low, high, height_bytes: height, is_constant: isConstant }) {
  return isConstant ? (high - low) / height : 1;
}

// The parts of the axis that belong to no memory, beside and above constants.
function gapsOf(memories) {
  const last = memories[memories.length - 1];
  if (!last.is_constant) return [];
  const below = memories.length > 1 ? memories[memories.length - 2].high : 0;
  return [[below, last.low], [last.high, Infinity]];
}

// "sram 187 KiB of 512 KiB, 36.5 %", and shorter forms of it.
function describeMemory({ name, height_bytes: height, size_bytes: size }) {
  const taken = `${name} ${tickBytes(height)}`;
  if (!size) return [taken, name];
  const whole = `${taken} of ${tickBytes(size)}`;
  return [`${whole}, ${formatPercent(height / size)}`, whole, `${name} ${formatPercent(height / size)}`, name];
}

// Where a buffer lies: its offset, and in which memory where there are several.
function placeText(plan, buffer) {
  const offset = formatCount(plan.bufferLow[buffer]);
  return plan.isArenaAlone ? offset : `${offset} in ${plan.memoryOf(buffer).name}`;
}

// What is taken of each memory, and what an iteration reads and writes there.
function memoryTable(plan) {
  const table = element("table", "memories");
  const header = element("tr", "", element("th", "", ""));
  const isLimited = plan.memories.some((memory) => memory.size_bytes);
  header.append(...cells("th", "number", "taken", ...(isLimited ? ["of"] : []), "touched"));
  const body = element("tbody");
  for (const memory of [...plan.memories].reverse()) {
    const name = element("th", "", memory.name);
    name.scope = "row";
    const size = isLimited ? [memory.size_bytes ? formatBytes(memory.size_bytes) : ""] : [];
    const facts = [formatBytes(memory.height_bytes), ...size, formatBytes(memory.touched_bytes)];
    body.append(element("tr", "", name, ...cells("td", "number", ...facts)));
  }
  table.append(element("thead", "", header), body);
  return table;
}

// Draws the ends of memories, at the left the ticks and the name of each, and at the right
// a gauge of how full it is.
function drawMemories(pen, chart) {
  const { plan, theme, area, view, map, bytes } = chart;
  const right = area.left + area.width;
  for (const memory of plan.memories) {
    const end = bytes.heightOf(memory.high);
    const low = Math.max(bytes.heightOf(memory.low), view.low);
    const high = Math.min(end, view.high);
    if (low >= high) continue;
    if (end <= view.high && !memory.is_constant) {
      pen.line(area.left, chart.yAt(high), right, chart.yAt(high), theme.ink, 1.25);
    }
    const part = { top: chart.yAt(high), bottom: chart.yAt(low) };
    drawGauge(pen, theme, right + 3, memory, part);
    if (memory.is_constant || part.bottom - part.top < LOWEST_WITH_TICKS) {
      writeBeside(pen, chart, memory, part);
      continue;
    }
    writeAlong(pen, chart, memory, part);
    const apart = ticksApart(view.high - view.low, Math.max(Math.floor(map.height / TICKS_APART), 2));
    const from = bytes.byteAt(low) - memory.low;
    for (const byte of multiples(apart, Math.max(from, 0), bytes.byteAt(high) - memory.low)) {
      const y = chart.yOf(memory.low + byte);
      if (bytes.isTakenOut(memory.low + byte)) continue;
      const isFirst = memory.low === 0 && byte === 0;
      if (isFirst || (y > part.top + NAME_LINE && y < part.bottom - NAME_LINE / 2)) chart.drawByteTick(pen, byte, y);
    }
  }
}

// As much of a strip as is taken of a memory; one without a limit has none.
function drawGauge(pen, theme, x, { height_bytes: height, size_bytes: size }, { top, bottom }) {
  if (!size) return;
  const whole = bottom - top - 2; // apart from the gauge below
  const taken = Math.min(height / size, 1) * whole;
  pen.rect(x, top, GAUGE_WIDTH, whole, theme.rule);
  pen.rect(x, top + whole - taken, GAUGE_WIDTH, taken, theme.paleInk);
}

// A memory and its size in two lines, its name alone, or nothing, as there is room;
// constants have nothing right above and below them.
function writeBeside(pen, { area, theme }, memory, { top, bottom }) {
  const room = bottom - top + (memory.is_constant ? NAME_LINE : 0);
  const lines = [memory.name, tickBytes(memory.height_bytes)].slice(0, Math.floor(room / NAME_LINE));
  let y = (top + bottom) / 2 - (NAME_LINE * (lines.length - 1)) / 2;
  for (const line of lines) {
    const text = fitText(line, 11, area.left - 12);
    pen.text(area.left - 8, y, text, { size: 11, fill: theme.ink, align: "right" });
    y += NAME_LINE;
  }
}

// A memory, its size and how full it is, or what fits of that, written upwards.
function writeAlong(pen, { theme }, memory, { top, bottom }) {
  const forms = describeMemory(memory);
  const text = forms.find((each) => textWidth(each, 11) <= bottom - top) ?? fitText(memory.name, 11, bottom - top);
  pen.text(8, (top + bottom) / 2, text, { size: 11, fill: theme.ink, align: "center", turn: true });
}
