// Numbers and steps in words.

const UNITS = [
  ["TiB", 2 ** 40],
  ["GiB", 2 ** 30],
  ["MiB", 2 ** 20],
  ["KiB", 2 ** 10],
];

const formatCount = (n) => n.toLocaleString("en-US");

function formatBytes(n) {
  for (const [unit, size] of UNITS) {
    if (Math.abs(n) >= size) {
      const value = n / size;
      const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
      return `${value.toFixed(digits)} ${unit}`;
    }
  }
  return `${n} B`;
}

function exactBytes(n) {
  return Math.abs(n) < 1024 ? `${n} B` : `${formatBytes(n)} (${formatCount(n)} B)`;
}

const signedBytes = (n) => (n ? (n > 0 ? "+" : "−") + formatBytes(Math.abs(n)) : "same");

const formatPercent = (share) => {
  const percent = 100 * share;
  if (percent === 0) return "0 %";
  return `${percent < 0.1 ? "< 0.1" : percent.toFixed(1)} %`;
};

const inWords = (name) => name.replace(/_/g, " ");

// "calc_gradient of fc1", or "idle" where no kernel can run.
function describeStep(plan, step) {
  const phase = plan.stepPhase[step];
  if (phase < 0) return "idle";
  const name = plan.vocabulary.phases[phase];
  return name === "clip_gradients" ? name : `${name} of ${plan.words[plan.stepLayer[step]]}`;
}

// About `most` round numbers in [low, high], apart by 1, 2 or 5 times a power of `base`.
function ticks(low, high, most, isBytes) {
  return multiples(ticksApart(high - low, most, isBytes), low, high);
}

// How far apart about `most` round numbers over a range are: a power of two for bytes.
function ticksApart(range, most, isBytes = true) {
  const rough = Math.max(range / most, 1);
  if (isBytes) return 2 ** Math.ceil(Math.log2(rough));
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((m) => m * power).find((m) => m >= rough);
}

function multiples(apart, low, high) {
  const found = [];
  for (let t = Math.ceil(low / apart) * apart; t <= high; t += apart) found.push(t);
  return found;
}

function tickBytes(n) {
  for (const [unit, size] of UNITS) {
    if (n >= size) return `${Number((n / size).toPrecision(4))} ${unit}`;
  }
  return `${n} B`;
}

const COUNTS = [
  [" G", 1e9],
  [" M", 1e6],
  [" k", 1e3],
];
const DURATIONS = [
  [" s", 1e9],
  [" ms", 1e6],
  [" µs", 1e3],
];

// A cost in the unit that fits a range of costs: "20 k" operations or "0.5 ms".
function tickCost(cost, unit, range) {
  const scales = unit === "nanoseconds" ? DURATIONS : COUNTS;
  const [name, size] = scales.find(([, each]) => range >= each) ?? [unit === "nanoseconds" ? " ns" : "", 1];
  return cost ? `${Number((cost / size).toPrecision(6))}${name}` : "0";
}

// "12,345 operations" or "0.123 ms".
function formatCost(cost, unit) {
  if (unit === "operations") return `${formatCount(cost)} operations`;
  const [name, size] = DURATIONS.find(([, each]) => cost >= each) ?? [" ns", 1];
  return `${Number((cost / size).toPrecision(3))}${name}`;
}

function rgbOf(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

function mix(colour, other, share) {
  const from = rgbOf(colour);
  const to = rgbOf(other);
  const parts = from.map((part, i) => Math.round(part + (to[i] - part) * share));
  return "#" + parts.map((part) => part.toString(16).padStart(2, "0")).join("");
}

// Black or white, whichever is read better on a colour.
function inkOn(colour) {
  const [r, g, b] = rgbOf(colour).map((part) => (part / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.26 ? "#16181d" : "#ffffff";
}
