// Places of steps on the axis to the right: all steps as wide as each other, or as wide
// as they take, and in two plans the steps of one operation at the same place.

const SHORTEST_SHARE = 300; // a step that takes nothing is this part of the axis, or
const SHORT_STEPS = 4; // less, so that all such steps together stay below a quarter

class Axis {
  // begin, end: where each step begins and ends; between two of them may be a gap.
  constructor(begin, end, length) {
    Object.assign(this, { begin, end, length });
    this.nSteps = begin.length;
    this.least = length || 1;
    for (let i = 0; i < this.nSteps; i++) this.least = Math.min(this.least, end[i] - begin[i]);
  }

  // The last step that begins at a place or before it; -1 left of the first.
  at(place) {
    let low = 0;
    let high = this.nSteps;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.begin[middle] <= place) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  // The step at a place, or -1 in a gap.
  stepAt(place) {
    const step = this.at(place);
    return step >= 0 && place < this.end[step] ? step : -1;
  }

  // The step at a place, or the one that is nearest.
  nearest(place) {
    const step = Math.max(this.at(place), 0);
    if (step + 1 < this.nSteps && place - this.end[step] > this.begin[step + 1] - place) return step + 1;
    return step;
  }

  middle(step) {
    return (this.begin[step] + this.end[step]) / 2;
  }

  // A place as steps and a fraction, by which it is found again on another axis.
  fractionAt(place) {
    const step = this.at(place);
    if (step < 0) return 0;
    return step + Math.min((place - this.begin[step]) / (this.end[step] - this.begin[step]), 1);
  }

  placeOf(fraction) {
    const step = Math.min(Math.floor(fraction), this.nSteps - 1);
    return this.begin[step] + (fraction - step) * (this.end[step] - this.begin[step]);
  }

  // The place at which so much of the costs is spent.
  placeOfCost(costs, spent) {
    for (let step = 0, before = 0; step < this.nSteps; before += costs[step++]) {
      if (spent >= before + costs[step] || !costs[step]) continue;
      return this.begin[step] + ((spent - before) / costs[step]) * (this.end[step] - this.begin[step]);
    }
    return this.length;
  }

  // What is spent before a place.
  costAt(costs, place) {
    const fraction = this.fractionAt(place);
    let spent = 0;
    for (let step = 0; step < Math.min(Math.floor(fraction), this.nSteps); step++) spent += costs[step];
    const step = Math.floor(fraction);
    return step < this.nSteps ? spent + (fraction - step) * costs[step] : spent;
  }
}

// How wide the steps of plans are, on one scale.
function stepWidths(plans, unit) {
  const costs = plans.map((plan) => plan.costs[unit]);
  const all = Math.max(...costs.map((of) => of.reduce((sum, cost) => sum + cost, 0)));
  const most = Math.max(...plans.map((plan) => plan.nSteps));
  const least = all / Math.max(SHORTEST_SHARE, SHORT_STEPS * most) || 1;
  return costs.map((of) => of.map((cost) => Math.max(cost, least)));
}

// The axis of each plan; `unit` is null where all steps are as wide.
function axesOf(plans, unit) {
  const widths = unit ? stepWidths(plans, unit) : plans.map((plan) => new Float64Array(plan.nSteps).fill(1));
  const common = plans.length > 1 ? commonSteps(...plans) : [];
  const begin = widths.map((of) => new Float64Array(of.length));
  const end = widths.map((of) => new Float64Array(of.length));
  const next = widths.map(() => 0);
  let place = 0;
  // Steps that have no partner before the next pair leave a gap in the other plan, or
  // stand above others that have none.
  for (const pair of [...common, widths.map((of) => of.length)]) {
    let furthest = place;
    widths.forEach((of, p) => {
      let at = place;
      for (; next[p] < pair[p]; next[p]++) {
        begin[p][next[p]] = at;
        end[p][next[p]] = at += of[next[p]];
      }
      furthest = Math.max(furthest, at);
    });
    place = furthest;
    if (widths.some((of, p) => pair[p] >= of.length)) break;
    const width = Math.max(...widths.map((of, p) => of[pair[p]]));
    widths.forEach((_, p) => {
      begin[p][pair[p]] = place;
      end[p][pair[p]] = place + width;
      next[p]++;
    });
    place += width;
  }
  return begin.map((each, p) => new Axis(each, end[p], place));
}

// Pairs of steps of one phase and layer, in the order of both plans, as many as there are.
// The first time of an operation belongs to the first of the other plan, and so on; of
// these pairs, the longest increasing sequence keeps the order (patience sorting).
function commonSteps(before, after) {
  const places = new Map();
  for (let step = 0; step < after.nSteps; step++) {
    const key = operationAt(after, step);
    if (!places.has(key)) places.set(key, []);
    places.get(key).push(step);
  }
  const pairs = [];
  const taken = new Map();
  for (let step = 0; step < before.nSteps; step++) {
    if (before.stepPhase[step] < 0) continue; // idle steps are no operation
    const key = operationAt(before, step);
    const time = taken.get(key) ?? 0;
    taken.set(key, time + 1);
    const other = places.get(key)?.[time];
    if (other !== undefined) pairs.push([step, other]);
  }
  return longestIncreasing(pairs);
}

const operationAt = (plan, step) => `${plan.stepPhase[step]} ${plan.words[plan.stepLayer[step]]}`;

// The longest part of pairs of which the second numbers increase too.
function longestIncreasing(pairs) {
  const last = []; // of the best sequence of each length, the pair that ends it
  const before = new Int32Array(pairs.length);
  pairs.forEach(([, value], i) => {
    let low = 0;
    let high = last.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[last[middle]][1] < value) low = middle + 1;
      else high = middle;
    }
    before[i] = low ? last[low - 1] : -1;
    last[low] = i;
  });
  const found = [];
  for (let i = last.length ? last[last.length - 1] : -1; i >= 0; i = before[i]) found.push(pairs[i]);
  return found.reverse();
}

// The unit in which every one of some plans knows its durations.
function unitOf(plans) {
  return plans.every((plan) => plan.costs.nanoseconds) ? "nanoseconds" : "operations";
}
