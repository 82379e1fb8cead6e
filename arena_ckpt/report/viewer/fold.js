// The axis of bytes, and on it the weights and optimizer states folded into one band.
//
// What lives through the whole iteration has its bytes for itself, so they can be taken
// out of the axis and no other tensor is cut. Where they were, the axis has a break, and
// its ticks go on at the real bytes behind it.

const FOLD_FROM = 0.75; // share of the height from which on they are folded at first:
// what changes from step to step, which the map is about, would have less than a quarter
const BAND_SHARE = 0.09; // of the height of the rest
const BAND_GAP = 0.012;
const FOLDED_KINDS = ["weight", "optimizer_state"];

class ByteAxis {
  // cuts: what is taken out, sorted; base: how high the rest begins, above the band.
  constructor(cuts = [], band = 0, base = 0) {
    Object.assign(this, { cuts, band, base });
    let taken = 0;
    this.takenBefore = cuts.map(([low, high]) => (taken += high - low) - (high - low));
  }

  get isFolded() {
    return this.base > 0;
  }

  // The number of cuts that begin at a byte or below.
  nCutsTo(byte) {
    let low = 0;
    let high = this.cuts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.cuts[middle][0] <= byte) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // How high a byte of the stacked memories stands.
  heightOf(byte) {
    const n = this.nCutsTo(byte);
    if (!n) return this.base + byte;
    const [low, high] = this.cuts[n - 1];
    return this.base + byte - this.takenBefore[n - 1] - (Math.min(byte, high) - low);
  }

  // The byte that stands there; of a cut, the one behind it.
  byteAt(height) {
    let byte = height - this.base;
    for (const [low, high] of this.cuts) {
      if (byte < low) break;
      byte += high - low;
    }
    return byte;
  }

  isTakenOut(byte) {
    const n = this.nCutsTo(byte);
    return n > 0 && byte < this.cuts[n - 1][1];
  }
}

// Numbers of the buffers that are weights or states and live through the whole iteration.
function keptBuffers(plan) {
  if (plan.keptCache) return plan.keptCache;
  const kinds = FOLDED_KINDS.map((kind) => plan.vocabulary.kinds.indexOf(kind));
  const kept = new Set();
  for (let b = 0; b < plan.nBuffers; b++) {
    const isWhole = plan.bufferStart[b] === 0 && plan.bufferStop[b] === plan.nSteps;
    if (isWhole && !plan.isConstant(b)) kept.add(b);
  }
  for (let i = 0; kept.size && i < plan.nSegments; i++) {
    if (!kinds.includes(plan.segmentKind[i])) kept.delete(plan.segmentBuffer[i]);
  }
  return (plan.keptCache = [...kept]);
}

// What the band of a plan holds: bytes together, and by kind, of so many buffers.
function keptFacts(plan) {
  const bytes = new Float64Array(plan.nKinds);
  const isKept = new Uint8Array(plan.nBuffers);
  for (const b of keptBuffers(plan)) isKept[b] = 1;
  const segments = [];
  for (let i = 0; i < plan.nSegments; i++) {
    const buffer = plan.segmentBuffer[i];
    if (!isKept[buffer] || (i && plan.segmentBuffer[i - 1] === buffer)) continue;
    bytes[plan.segmentKind[i]] += plan.takenBy(i);
    segments.push(i);
  }
  const all = bytes.reduce((sum, each) => sum + each, 0);
  return { all, bytes, isKept, segments, nBuffers: keptBuffers(plan).length };
}

// The parts of the axis that kept buffers take, joined where they touch.
function cutsOf(plan) {
  const ends = keptBuffers(plan).map((b) => plan.endsOf(b));
  ends.sort((a, b) => a[0] - b[0]);
  const cuts = [];
  for (const [low, high] of ends) {
    const last = cuts[cuts.length - 1];
    if (last && low <= last[1]) last[1] = Math.max(last[1], high);
    else cuts.push([low, high]);
  }
  return cuts;
}

// Whether plans are shown folded before anyone chose: see FOLD_FROM.
function areFoldedAtFirst(plans) {
  return plans.every((plan) => keptFacts(plan).all > FOLD_FROM * Math.max(highestByte(plan), 1));
}

function highestByte(plan) {
  return Math.max(...plan.memories.map((memory) => memory.high));
}

// The axis of bytes of each plan, on one scale.
function byteAxesOf(plans, isFolded) {
  const cuts = plans.map((plan) => (isFolded ? cutsOf(plan) : []));
  if (!cuts.some((of) => of.length)) return plans.map(() => new ByteAxis());
  const rest = plans.map((plan, i) => cuts[i].reduce((sum, [low, high]) => sum - (high - low), highestByte(plan)));
  const most = Math.max(...rest, 64);
  return cuts.map((of) => new ByteAxis(of, most * BAND_SHARE, most * (BAND_SHARE + BAND_GAP)));
}

// "weights and optimizer states, 1.2 MiB".
function bandText(facts, kinds) {
  const names = FOLDED_KINDS.filter((kind) => facts.bytes[kinds.indexOf(kind)]).map((kind) => `${inWords(kind)}s`);
  return `${names.join(" and ")}, ${formatBytes(facts.all)}`;
}

// The card of the band.
function bandCard(plan) {
  const facts = keptFacts(plan);
  const { kinds } = plan.vocabulary;
  const list = element("dl", "facts-of");
  for (const kind of FOLDED_KINDS) {
    const k = kinds.indexOf(kind);
    if (facts.bytes[k]) list.append(...definition(`${inWords(kind)}s`, exactBytes(facts.bytes[k])));
  }
  list.append(...definition("buffers", formatCount(facts.nBuffers)));
  if (plan.nRams > 1) {
    for (const memory of plan.memories.filter((each) => !each.is_constant)) {
      const inside = keptBuffers(plan).filter((b) => plan.memoryOf(b) === memory);
      const bytes = inside.reduce((sum, b) => sum + plan.bufferTaken[b], 0);
      if (bytes) list.append(...definition(`in ${memory.name}`, formatBytes(bytes)));
    }
  }
  const largest = [...facts.segments].sort((a, b) => plan.takenBy(b) - plan.takenBy(a)).slice(0, 3);
  const names = largest.map((i) => `${plan.nameOf(plan.segmentTensor[i])} ${formatBytes(plan.takenBy(i))}`);
  list.append(...definition("largest", names.join(", ")));
  const note = element("p", "pale", "Alive at every step. Click to unfold.");
  return element("div", "card-body", element("h3", "name", "Folded: weights and optimizer states"), list, note);
}
