// What moved the peak from one plan to another.

function cells(tag, className, ...texts) {
  return texts.map((text) => element(tag, className, text));
}

function comparisonTable(before, after) {
  const table = element("table", "comparison");
  const header = element("tr", "", element("th", "", ""));
  header.append(...cells("th", "number", before.title, after.title, "change"));
  const body = element("tbody");
  const row = (label, first, second, className = "") => {
    const name = element("th", "", ...(Array.isArray(label) ? label : [label]));
    name.scope = "row";
    const change = element("td", `number ${second < first ? "less" : second > first ? "more" : "pale"}`);
    change.textContent = signedBytes(second - first);
    body.append(
      element("tr", className, name, ...cells("td", "number", formatBytes(first), formatBytes(second)), change),
    );
  };
  row("arena", before.arena_bytes, after.arena_bytes);
  if (!before.isArenaAlone || !after.isArenaAlone) memoryRows(before, after, row);
  row("live lower bound", before.live_lower_bound_bytes, after.live_lower_bound_bytes);
  row("local lower bound", before.local_lower_bound_bytes, after.local_lower_bound_bytes);
  row("alive at the peak", before.peakBytes, after.peakBytes, "ruled");
  before.vocabulary.kinds.forEach((kind, k) => {
    const first = before.liveByKind[k][before.peakStep] || 0;
    const second = after.liveByKind[k][after.peakStep] || 0;
    if (first || second) row([swatch(before, k), inWords(kind)], first, second);
  });
  table.append(element("thead", "", header), body);
  return element("div", "scrolls", table);
}

// A row for each memory that has a name in either plan; the arena has one already.
function memoryRows(before, after, row) {
  const heights = [before, after].map(
    (plan) => new Map(plan.memories.map((memory) => [memory.name, memory.height_bytes])),
  );
  for (const name of new Set(heights.flatMap((of) => [...of.keys()]))) {
    if (name !== "arena") row(name, ...heights.map((of) => of.get(name) ?? 0));
  }
}

// Bytes of each name that is alive at a step.
function bytesByName(plan, step) {
  const bytes = new Map();
  for (const i of plan.aliveAt(step)) {
    const name = plan.nameOf(plan.segmentTensor[i]);
    bytes.set(name, {
      bytes: (bytes.get(name)?.bytes ?? 0) + plan.takenBy(i),
      kind: plan.segmentKind[i],
    });
  }
  return bytes;
}

const MOST_MOVED = 8;

function movedList(plan, heading, here, there, pick) {
  const moved = [...here]
    .map(([name, { bytes, kind }]) => ({ name, kind, bytes: bytes - (there.get(name)?.bytes ?? 0) }))
    .filter((row) => row.bytes > 0)
    .sort((a, b) => b.bytes - a.bytes);
  const section = element("div", "moved", element("h3", "", heading));
  if (!moved.length) section.append(element("p", "pale", "nothing"));
  const list = element("ol", "alive");
  for (const { name, kind, bytes } of moved.slice(0, MOST_MOVED)) {
    const button = element(
      "button",
      "",
      swatch(plan, kind),
      element("span", "name", name),
      element("span", "number", formatBytes(bytes)),
    );
    button.type = "button";
    button.addEventListener("click", () => pick(name));
    list.append(element("li", "", button));
  }
  if (moved.length > MOST_MOVED) {
    const rest = moved.slice(MOST_MOVED).reduce((sum, row) => sum + row.bytes, 0);
    const text = `and ${formatCount(moved.length - MOST_MOVED)} more, ${formatBytes(rest)}`;
    list.append(element("li", "more", text));
  }
  section.append(list);
  return section;
}

function peakSentence(before, after) {
  const at = (plan) => `step ${formatCount(plan.peakStep)} (${describeStep(plan, plan.peakStep)})`;
  const change = after.peakBytes - before.peakBytes;
  const same = describeStep(before, before.peakStep) === describeStep(after, after.peakStep);
  const where = same
    ? `The peak stays at ${describeStep(after, after.peakStep)}, step ${formatCount(before.peakStep)} before and ${formatCount(after.peakStep)} after`
    : `The peak moves from ${at(before)} to ${at(after)}`;
  const howMuch = change
    ? `and is ${formatBytes(Math.abs(change))} ${change < 0 ? "lower" : "higher"}`
    : "and is as high as before";
  return `${where}, ${howMuch}.`;
}

function comparison(before, after, pick) {
  const was = bytesByName(before, before.peakStep);
  const is = bytesByName(after, after.peakStep);
  const text = element("div", "sentences", element("p", "", peakSentence(before, after)));
  for (const sentence of after.sentences) text.append(element("p", "", sentence));
  return element(
    "div",
    "comparison-body",
    element("div", "", element("h2", "", "What moved the peak"), text, comparisonTable(before, after)),
    movedList(before, `Only at the peak of ${before.title}`, was, is, pick),
    movedList(after, `Only at the peak of ${after.title}`, is, was, pick),
  );
}
