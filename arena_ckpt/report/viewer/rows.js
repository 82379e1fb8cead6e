// The live ranges of a plan as rows: what each column says, how it sorts, what a filter
// keeps. A column of words has a code for each row, so that a word is looked at once.

const LARGEST_FIRST = new Set(["bytes", "lives"]);

const COLUMNS = [
  { key: "tensor", code: (p, t) => p.tensorName[t], word: (p, c) => p.nameAt(c) },
  { key: "layer", code: (p, t) => p.tensorLayer[t], word: (p, c) => p.words[c] },
  { key: "kind", code: (p, t) => p.tensorKind[t], word: (p, c) => p.vocabulary.kinds[c] },
  { key: "shape", code: (p, t) => p.tensorShape[t], word: (p, c) => p.shapes[c].replaceAll(" × ", "x") || "scalar" },
  { key: "dtype", code: (p, t) => p.tensorDtype[t], word: (p, c) => p.words[c] },
  { key: "bytes", value: (p, t) => p.sizeOf(t) },
  { key: "memory", code: (p, t) => p.bufferMemory[p.tensorBuffer[t]], word: (p, c) => p.memories[c].name },
  { key: "offset", value: (p, t) => p.bufferLow[p.tensorBuffer[t]] },
  { key: "start", value: (p, t) => p.tensorStart[t] },
  { key: "stop", value: (p, t) => p.tensorStop[t] },
  { key: "phases", code: phasesOf, word: (p, c) => p.vocabulary.phases.filter((_, i) => c & (1 << i)).join(" ") },
  { key: "lives", value: (p, t) => livesByName(p)[p.tensorName[t]] },
];
const COLUMN = Object.fromEntries(COLUMNS.map((column) => [column.key, column]));

// The phases in which a live range is used, a bit for each.
function phasesOf(plan, tensor) {
  let bits = 0;
  for (let u = plan.useFirst[tensor]; u < plan.useFirst[tensor + 1]; u++) {
    const phase = plan.stepPhase[plan.useStep[u]];
    if (phase >= 0) bits |= 1 << phase;
  }
  return bits;
}

const livesCache = new WeakMap();

// How many live ranges each name has.
function livesByName(plan) {
  if (!livesCache.has(plan)) {
    const lives = new Int32Array(plan.nNames);
    for (let t = 0; t < plan.nTensors; t++) lives[plan.tensorName[t]] += 1;
    livesCache.set(plan, lives);
  }
  return livesCache.get(plan);
}

// What a cell shows.
function cellText(plan, { key, code, word, value }, tensor) {
  if (key === "lives") {
    const lives = value(plan, tensor);
    return lives === 1 ? "1" : `${plan.tensorLife[tensor] + 1} of ${lives}`;
  }
  if (value) return formatCount(value(plan, tensor));
  const text = word(plan, code(plan, tensor));
  if (key === "shape") return text.replaceAll("x", "×");
  if (key === "phases") return text.split(" ").map(inWords).join(", ");
  return key === "kind" ? inWords(text) : text;
}

// fc10 after fc2.
const naturalKey = (text) => text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(9, "0"));

function sortKeys(plan, column) {
  const keys = new Float64Array(plan.nTensors);
  if (column.value) {
    for (let t = 0; t < plan.nTensors; t++) keys[t] = column.value(plan, t);
    return keys;
  }
  for (let t = 0; t < plan.nTensors; t++) keys[t] = column.code(plan, t);
  const words = [...new Set(keys)].map((code) => [naturalKey(column.word(plan, code)), code]);
  words.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const place = new Map(words.map(([, code], i) => [code, i]));
  return keys.map((code) => place.get(code));
}

function sortedRows(plan, rows, { key, isDown }) {
  const keys = sortKeys(plan, COLUMN[key]);
  const sign = isDown ? -1 : 1;
  return Uint32Array.from(rows).sort((a, b) => sign * (keys[a] - keys[b]) || a - b);
}

// -- filters: terms that must all hold ----------------------------------------------------

const FILTER_UNITS = { "": 1, b: 1, k: 2 ** 10, kib: 2 ** 10, m: 2 ** 20, mib: 2 ** 20, g: 2 ** 30, gib: 2 ** 30 };
const OTHER_NAMES = { name: "tensor", size: "bytes", phase: "phases", life: "lives", type: "dtype" };
const TERM = /^(-?)([a-z]+)(>=|<=|>|<|=|:)(.*)$/i;

class FilterError extends Error {}

// The live ranges that hold to a text such as "fc1 kind:weight bytes>4KiB step:12".
function filteredRows(plan, text) {
  const tests = text.trim().split(/\s+/).filter(Boolean).map((term) => testOf(plan, term));
  const rows = [];
  for (let t = 0; t < plan.nTensors; t++) if (tests.every((test) => test(t))) rows.push(t);
  return rows;
}

function testOf(plan, term) {
  const [, not, given, sign, wanted] = TERM.exec(term) ?? [];
  const field = OTHER_NAMES[given?.toLowerCase()] ?? given?.toLowerCase();
  const isField = field === "step" || field in COLUMN;
  if (given && !isField && sign !== ":") {
    throw new FilterError(`there is no column ${given}; there are ${COLUMNS.map(({ key }) => key).join(", ")}, step`);
  }
  if (!given || !isField) {
    const part = term.startsWith("-") && term.length > 1 ? term.slice(1) : term;
    const test = textTest(plan, part);
    return part === term ? test : (t) => !test(t);
  }
  if (!wanted) throw new FilterError(`${field} wants something after ${sign}`);
  const test = fieldTest(plan, field, sign, wanted);
  return not ? (t) => !test(t) : test;
}

function fieldTest(plan, field, sign, wanted) {
  if (field === "step") return stepTest(plan, sign, wanted);
  const column = COLUMN[field];
  return column.value ? numberTest(plan, column, sign, wanted) : wordTest(plan, column, sign, wanted);
}

// A part of the name of a tensor or of its layer.
function textTest(plan, part) {
  const wanted = part.toLowerCase();
  const names = plan.searchable;
  const layers = lookUp((code) => plan.words[code].toLowerCase().includes(wanted));
  return (t) => names[plan.tensorName[t]].includes(wanted) || layers(plan.tensorLayer[t]);
}

function numberTest(plan, { key, value }, sign, wanted) {
  const number = numberOf(key, wanted);
  const holds = {
    ">": (n) => n > number,
    ">=": (n) => n >= number,
    "<": (n) => n < number,
    "<=": (n) => n <= number,
    "=": (n) => n === number,
    ":": (n) => n === number,
  }[sign];
  return (t) => holds(value(plan, t));
}

function numberOf(key, text) {
  const [, digits, unit] = /^([\d.,]+)([a-z]*)$/i.exec(text) ?? [];
  const number = Number(digits?.replaceAll(",", "")) * FILTER_UNITS[unit?.toLowerCase()];
  if (Number.isNaN(number)) throw new FilterError(`${key} wants a number such as 1000 or 4KiB, not ${text}`);
  return number;
}

// The whole word where there is one, else a part of it.
function wordTest(plan, { key, code, word }, sign, wanted) {
  if (sign !== ":" && sign !== "=") throw new FilterError(`${key} is no number: write ${key}:${wanted}`);
  const plain = (text) => text.toLowerCase().replaceAll(" ", "_");
  const part = plain(wanted).replaceAll("×", "x");
  const wordOf = (c) => plain(word(plan, c));
  const codes = new Set();
  for (let t = 0; t < plan.nTensors; t++) codes.add(code(plan, t));
  const isWhole = sign === "=" || [...codes].some((c) => wordOf(c) === part);
  const kept = new Set([...codes].filter((c) => (isWhole && key !== "phases" ? wordOf(c) === part : wordOf(c).includes(part))));
  return (t) => kept.has(code(plan, t));
}

// Alive at a step, or at one of step:3..9.
function stepTest(plan, sign, wanted) {
  const [, first, last] = /^(\d+)(?:\.\.(\d+))?$/.exec(wanted) ?? [];
  if (first === undefined || (sign !== ":" && sign !== "=")) {
    throw new FilterError("step wants a step or a range of them: step:12 or step:12..20");
  }
  const [from, to] = [Number(first), Number(last ?? first)];
  return (t) => plan.tensorStart[t] <= to && from < plan.tensorStop[t];
}

// A test of codes that asks once for each.
function lookUp(test) {
  const known = new Map();
  return (code) => {
    if (!known.has(code)) known.set(code, test(code));
    return known.get(code);
  };
}

// -- as text ------------------------------------------------------------------------------

function rowsAsText(plan, rows, separator) {
  const quote = (text) => (/["\t\n\r]/.test(text) || text.includes(separator) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [[...COLUMNS.map(({ key }) => key), "life"].join(separator)];
  for (const t of rows) {
    const cells = COLUMNS.map(({ code, word, value }) => (value ? value(plan, t) : word(plan, code(plan, t))));
    lines.push([...cells, plan.tensorLife[t] + 1].map((cell) => quote(String(cell))).join(separator));
  }
  return lines.join("\n") + "\n";
}
