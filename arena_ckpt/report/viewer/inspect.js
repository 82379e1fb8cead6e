// What the page says about a tensor, a step and the peak. Names are set as text only.

const $ = (id) => document.getElementById(id);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// People look at it: the top of it is in the window, or the focus is within.
function isInSight(part) {
  const { top } = part.getBoundingClientRect();
  return (top >= 0 && top < window.innerHeight - 60) || part.contains(document.activeElement);
}

function swatch(plan, kind) {
  const mark = element("span", "swatch");
  mark.style.backgroundColor = `var(--kind-${kind})`;
  if (plan.vocabulary.kinds[kind] === "recomputed_activation") mark.classList.add("hatched");
  return mark;
}

function definition(term, ...values) {
  return [element("dt", "", term), element("dd", "", ...values)];
}

function lifeName(plan, tensor) {
  const life = plan.tensorLife[tensor];
  return life === 0 ? "first life" : life === 1 ? "recomputed" : `recomputed, life ${life + 1}`;
}

const range = (start, stop) => `[${formatCount(start)}, ${formatCount(stop)})`;

// "step 3 fc1 writes, 4 act1 reads": the uses of a life, phase by phase.
function usesByPhase(plan, tensor) {
  const phases = new Map();
  for (let u = plan.useFirst[tensor]; u < plan.useFirst[tensor + 1]; u++) {
    const step = plan.useStep[u];
    const phase = plan.stepPhase[step];
    if (phase < 0) continue;
    const layer = plan.words[plan.stepLayer[step]];
    const access = plan.vocabulary.accesses[plan.useAccess[u]];
    if (!phases.has(phase)) phases.set(phase, []);
    phases.get(phase).push({ step, layer, access });
  }
  return phases;
}

const MOST_USES = 4;

function usesList(plan, tensor) {
  const list = element("dl", "uses");
  for (const [phase, uses] of usesByPhase(plan, tensor)) {
    const shown = uses.slice(0, MOST_USES).map((use) => {
      const verb = { read: "reads", write: "writes", update: "updates" }[use.access];
      return `${formatCount(use.step)} ${use.layer} ${verb}`;
    });
    if (uses.length > MOST_USES) shown.push(`${formatCount(uses.length - MOST_USES)} more`);
    list.append(...definition(inWords(plan.vocabulary.phases[phase]), shown.join(", ")));
  }
  return list;
}

function neighbourNames(plan, tensor, side) {
  const buffer = plan.tensorBuffer[tensor];
  const near = plan.neighbours(buffer, side);
  const names = near.slice(0, 3).map((b) => {
    const step = side < 0 ? plan.bufferStop[b] - 1 : plan.bufferStart[b];
    return plan.nameOf(plan.tensorIn(b, step));
  });
  if (near.length > 3) names.push(`${formatCount(near.length - 3)} more`);
  return names.join(", ") || "nothing";
}

// The card of one life of a tensor; `onPick(name)` makes its names of others buttons.
function tensorCard(plan, tensor) {
  const b = plan.tensorBuffer[tensor];
  const kind = plan.tensorKind[tensor];
  const size = plan.sizeOf(tensor);
  const head = element("h3", "name", swatch(plan, kind), plan.nameOf(tensor));
  const list = element("dl", "facts-of");
  const layer = plan.words[plan.tensorLayer[tensor]];
  const lives = plan.livesOf(plan.tensorName[tensor]);
  list.append(...definition("layer", layer || "the model"));
  list.append(...definition("kind", inWords(plan.vocabulary.kinds[kind])));
  const dtype = plan.words[plan.tensorDtype[tensor]];
  list.append(...definition("shape", `${plan.shapes[plan.tensorShape[tensor]] || "scalar"}  ${dtype}`));
  list.append(...definition("size", exactBytes(size)));
  list.append(...definition("offset", placeText(plan, b)));
  const lived = range(plan.tensorStart[tensor], plan.tensorStop[tensor]);
  const which = lives.length > 1 ? `, ${lifeName(plan, tensor)}` : "";
  list.append(...definition("live", `steps ${lived}${which}`));
  const others = lives.filter((t) => t !== tensor);
  if (others.length) {
    const text = others
      .slice(0, 4)
      .map((t) => `${range(plan.tensorStart[t], plan.tensorStop[t])} at ${placeText(plan, plan.tensorBuffer[t])}`)
      .join(", ");
    list.append(...definition(others.length > 1 ? "other lives" : "other life", text));
  }
  const sharers = plan.sharers(tensor);
  if (sharers.length) {
    const names = sharers.slice(0, 3).map((t) => plan.nameOf(t));
    list.append(...definition("in place with", names.join(", ")));
  }
  list.append(...definition("follows", neighbourNames(plan, tensor, -1)));
  list.append(...definition("followed by", neighbourNames(plan, tensor, 1)));
  const card = element("div", "card-body", head, list);
  const uses = usesList(plan, tensor);
  if (uses.childElementCount) card.append(element("h4", "", "Uses"), uses);
  return card;
}

const MOST_ALIVE = 200;

// A list of what is alive, each a button; `pick(name)` is called with what was clicked.
function aliveList(plan, step, pick, pinned) {
  const alive = plan.aliveAt(step);
  const list = element("ol", "alive");
  const most = alive.length ? plan.takenBy(alive[0]) : 1;
  for (const i of alive.slice(0, MOST_ALIVE)) {
    const tensor = plan.segmentTensor[i];
    const size = plan.takenBy(i);
    const name = plan.nameOf(tensor);
    const bar = element("span", "bar");
    bar.style.width = `${(100 * size) / most}%`;
    bar.style.background = `var(--kind-${plan.segmentKind[i]})`;
    const button = element(
      "button",
      "",
      swatch(plan, plan.segmentKind[i]),
      element("span", "name", name),
      element("span", "number", formatBytes(plan.sizeOf(tensor))),
      bar,
    );
    button.type = "button";
    button.title = name;
    button.setAttribute("aria-pressed", String(name === pinned));
    button.addEventListener("click", () => pick(name));
    list.append(element("li", "", button));
  }
  if (alive.length > MOST_ALIVE) {
    list.append(element("li", "more", `and ${formatCount(alive.length - MOST_ALIVE)} smaller ones`));
  }
  return list;
}

// Bytes by kind at the peak, the most first, as bars.
function kindBars(plan, step) {
  const rows = plan.liveByKind
    .map((bytes, kind) => ({ kind, bytes: bytes[step] }))
    .filter((row) => row.bytes > 0)
    .sort((a, b) => b.bytes - a.bytes);
  const table = element("table", "kinds");
  for (const { kind, bytes } of rows) {
    const bar = element("span", "bar");
    bar.style.width = `${(100 * bytes) / rows[0].bytes}%`;
    bar.style.background = `var(--kind-${kind})`;
    const label = element("th", "", swatch(plan, kind), inWords(plan.vocabulary.kinds[kind]));
    label.scope = "row";
    const share = formatPercent(bytes / plan.live[step]);
    table.append(
      element("tr", "", label, element("td", "number", formatBytes(bytes)), element("td", "number pale", share)),
      element("tr", "bars", Object.assign(element("td", "", bar), { colSpan: 3 })),
    );
  }
  return table;
}

function tile(label, value, note) {
  return element(
    "div",
    "tile",
    element("div", "label", label),
    element("div", "value", value),
    element("div", "note", note),
  );
}

function tiles(plan) {
  const { arena_bytes: arena, live_lower_bound_bytes: bound } = plan;
  const above = arena - bound;
  const constants = plan.constant_bytes;
  return [
    tile("Arena", formatBytes(arena), `${formatCount(arena)} B`),
    ...(constants ? [tile("Constants", formatBytes(constants), "read-only, beside the arena")] : []),
    tile(
      "Live lower bound",
      formatBytes(bound),
      above ? `arena is ${formatPercent(above / bound)} above` : "reached: proved optimal",
    ),
    tile("Local lower bound", formatBytes(plan.local_lower_bound_bytes), "of any schedule"),
    tile("Without reuse", formatBytes(plan.naive_bytes), `${(plan.naive_bytes / arena).toFixed(1)} × the arena`),
    tile(
      "Fragmentation",
      formatPercent(arena ? 1 - plan.peakBytes / arena : 0),
      "of the arena free at the peak",
    ),
    tile("Peak", `step ${formatCount(plan.peakStep)}`, describeStep(plan, plan.peakStep)),
    tile("Overhead", formatPercent(plan.overhead), "of recomputing, by counted cost"),
  ];
}

function subtitle(plan) {
  const parts = [
    `${formatCount(plan.n_layers)} layers`,
    `batch size ${formatCount(plan.batch_size)}`,
    `${formatCount(plan.nBuffers)} buffers`,
    `${formatCount(plan.nSteps)} steps`,
  ];
  if (plan.micro_batches > 1) parts.splice(2, 0, `${plan.micro_batches} micro-batches`);
  if (plan.n_blocks) {
    parts.push(plan.n_blocks === 1 ? "1 checkpoint block" : `${formatCount(plan.n_blocks)} checkpoint blocks`);
  }
  return parts.join("  ·  ");
}
