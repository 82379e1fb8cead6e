// Plans out of their blobs: gzip, byte planes, differences (see report/packing.py).

function bytesOfBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

function textOfBase64(text) {
  return new TextDecoder().decode(bytesOfBase64(text));
}

async function gunzip(bytes) {
  const unzipped = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unzipped).arrayBuffer());
}

function readColumn(bytes, start, entry) {
  const n = entry.length;
  const column = entry.wide ? new Float64Array(n) : new Int32Array(n);
  let before = 0;
  for (let i = 0; i < n; i++) {
    let value = 0;
    for (let plane = entry.planes - 1; plane >= 0; plane--) {
      value = value * 256 + bytes[start + plane * n + i];
    }
    if (entry.signed) value = value % 2 ? -(value + 1) / 2 : value / 2;
    value *= entry.factor;
    if (entry.differences) value = before += value;
    column[i] = value;
  }
  return column;
}

function readColumns(bytes, contents) {
  const columns = {};
  let start = 0;
  for (const entry of contents) {
    if ("text_bytes" in entry) {
      const part = bytes.subarray(start, start + entry.text_bytes);
      columns[entry.name] = JSON.parse(new TextDecoder().decode(part));
      start += entry.text_bytes;
    } else {
      columns[entry.name] = readColumn(bytes, start, entry);
      start += entry.planes * entry.length;
    }
  }
  return columns;
}

// A plan as typed arrays; segments are what is drawn, tensors are lives.
class Plan {
  static async read(facts, blob, vocabulary) {
    const bytes = await gunzip(bytesOfBase64(blob));
    return new Plan(facts, readColumns(bytes, facts.contents), vocabulary);
  }

  constructor(facts, columns, vocabulary) {
    Object.assign(this, facts, { vocabulary });
    this.words = columns.words;
    this.shapes = columns.shapes;
    this.stepPhase = columns.step_phase;
    this.stepLayer = columns.step_layer;
    this.stepBand = columns.step_band;
    this.nSteps = this.stepPhase.length;
    // What each step takes: counted, and measured where someone did.
    this.costs = { operations: columns.step_operations, nanoseconds: columns.step_nanoseconds };
    this.nKinds = vocabulary.kinds.length;
    this.isArenaAlone = !facts.memories;
    this.memories = memoriesOf(facts);
    this.gaps = gapsOf(this.memories);
    this.nRams = this.memories.filter((memory) => !memory.is_constant).length;
    this.readSegments(columns);
    this.readTensors(columns);
    this.readUses(columns);
    this.readLayers(columns);
    this.names = columns;
    this.nameCache = null;
    this.addUp();
    delete this.contents;
  }

  readSegments(columns) {
    this.bufferLow = columns.buffer_offset; // within its memory
    this.bufferTaken = columns.buffer_taken;
    this.bufferSpare = columns.buffer_spare;
    const n = (this.nBuffers = this.bufferLow.length);
    this.bufferMemory = columns.buffer_memory ?? new Uint8Array(n);
    this.bufferStart = new Int32Array(n);
    this.bufferStop = new Int32Array(n);
    const buffer = (this.segmentBuffer = columns.segment_buffer);
    const start = (this.segmentStart = columns.segment_start);
    const stop = (this.segmentStop = columns.segment_steps);
    this.segmentTensor = columns.segment_tensor;
    const m = (this.nSegments = buffer.length);
    this.segmentLow = new Float64Array(m);
    this.segmentHigh = new Float64Array(m);
    for (let i = 0; i < m; i++) {
      const b = buffer[i];
      stop[i] += start[i];
      if (i === 0 || buffer[i - 1] !== b) this.bufferStart[b] = start[i];
      this.bufferStop[b] = stop[i];
      [this.segmentLow[i], this.segmentHigh[i]] = this.endsOf(b);
    }
  }

  memoryOf(buffer) {
    return this.memories[this.bufferMemory[buffer]];
  }

  isConstant(buffer) {
    return this.memoryOf(buffer).is_constant;
  }

  // The part of the axis of bytes that a buffer takes.
  endsOf(buffer) {
    const memory = this.memoryOf(buffer);
    const scale = scaleOf(memory);
    const offset = this.bufferLow[buffer];
    return [memory.low + offset * scale, memory.low + (offset + this.bufferTaken[buffer]) * scale];
  }

  // Bytes that a segment takes in its memory.
  takenBy(segment) {
    return this.bufferTaken[this.segmentBuffer[segment]];
  }

  readTensors(columns) {
    const buffer = (this.tensorBuffer = columns.tensor_buffer);
    this.nTensors = buffer.length;
    this.tensorName = columns.tensor_name;
    this.tensorLife = columns.tensor_life;
    this.tensorKind = columns.tensor_kind;
    this.tensorLayer = columns.tensor_layer;
    this.tensorShape = columns.tensor_shape;
    this.tensorDtype = columns.tensor_dtype;
    this.tensorLess = columns.tensor_size; // than its buffer, so at most 0
    this.tensorStart = columns.tensor_start;
    this.tensorStop = columns.tensor_stop;
    for (let t = 0; t < this.nTensors; t++) {
      this.tensorStart[t] += this.bufferStart[buffer[t]];
      this.tensorStop[t] += this.bufferStop[buffer[t]];
    }
    this.segmentKind = new Uint8Array(this.nSegments);
    for (let i = 0; i < this.nSegments; i++) {
      this.segmentKind[i] = this.tensorKind[this.segmentTensor[i]];
    }
  }

  readUses(columns) {
    this.useFirst = new Int32Array(this.nTensors + 1);
    for (let t = 0; t < this.nTensors; t++) {
      this.useFirst[t + 1] = this.useFirst[t] + columns.use_count[t];
    }
    this.useStep = columns.use_step;
    this.useAccess = columns.use_access;
    for (let t = 0; t < this.nTensors; t++) {
      for (let u = this.useFirst[t]; u < this.useFirst[t + 1]; u++) {
        this.useStep[u] += this.tensorStart[t];
      }
    }
  }

  readLayers(columns) {
    this.layerName = columns.layer_name; // a word
    this.layerType = columns.layer_type;
    this.layerShape = columns.layer_shape;
    this.layerBlock = columns.layer_block; // 0: in none
    this.blockName = columns.block_name;
    this.layerInputs = [];
    let at = 0;
    columns.layer_inputs.forEach((n, layer) => {
      const inputs = columns.layer_input.subarray(at, at + n);
      this.layerInputs.push(Array.from(inputs, (back) => layer - back));
      at += n;
    });
  }

  // Bytes of RAM alive at each step, together and by kind, and the peak.
  addUp() {
    const { nKinds, nSteps } = this;
    this.live = new Float64Array(nSteps);
    this.liveByKind = [];
    for (let k = 0; k < nKinds; k++) this.liveByKind.push(new Float64Array(nSteps + 1));
    for (let i = 0; i < this.nSegments; i++) {
      if (this.isConstant(this.segmentBuffer[i])) continue;
      const taken = this.takenBy(i);
      const changes = this.liveByKind[this.segmentKind[i]];
      changes[this.segmentStart[i]] += taken;
      changes[this.segmentStop[i]] -= taken;
    }
    for (const changes of this.liveByKind) {
      for (let step = 0, sum = 0; step < nSteps; step++) {
        sum += changes[step];
        changes[step] = sum;
        this.live[step] += sum;
      }
    }
    this.peakStep = 0;
    for (let step = 1; step < nSteps; step++) {
      if (this.live[step] > this.live[this.peakStep]) this.peakStep = step;
    }
    this.peakBytes = nSteps ? this.live[this.peakStep] : 0;
  }

  nameOf(tensor) {
    return this.nameAt(this.tensorName[tensor]);
  }

  nameAt(number) {
    const { name_has_colon: colon, name_head: head, name_tail: tail } = this.names;
    return this.words[head[number]] + (colon[number] ? ":" : "") + this.words[tail[number]];
  }

  get nNames() {
    return this.names.name_head.length;
  }

  // All names in small letters, made at the first search.
  get searchable() {
    if (!this.nameCache) {
      this.nameCache = new Array(this.nNames);
      for (let i = 0; i < this.nNames; i++) this.nameCache[i] = this.nameAt(i).toLowerCase();
    }
    return this.nameCache;
  }

  sizeOf(tensor) {
    const b = this.tensorBuffer[tensor];
    return this.bufferTaken[b] - this.bufferSpare[b] + this.tensorLess[tensor];
  }

  livesOf(name) {
    const lives = [];
    for (let t = 0; t < this.nTensors; t++) if (this.tensorName[t] === name) lives.push(t);
    return lives.sort((a, b) => this.tensorStart[a] - this.tensorStart[b]);
  }

  // The number of a name, or -1; the last one is kept, as each frame asks for it again.
  nameNumber(name) {
    if (this.lastAsked?.name !== name) {
      let number = this.nNames - 1;
      while (number >= 0 && this.nameAt(number) !== name) number -= 1;
      this.lastAsked = { name, number };
    }
    return this.lastAsked.number;
  }

  hasLayer(name) {
    return this.layerName.some((word) => this.words[word] === name);
  }

  segmentAt(step, byte) {
    const { segmentStart, segmentStop, segmentLow, segmentHigh, nSegments } = this;
    for (let i = 0; i < nSegments; i++) {
      if (segmentStart[i] <= step && step < segmentStop[i]) {
        if (segmentLow[i] <= byte && byte < segmentHigh[i]) return i;
      }
    }
    return -1;
  }

  // Segments at a step from the lowest on, constants included.
  stackedAt(step) {
    const stacked = [];
    for (let i = 0; i < this.nSegments; i++) {
      if (this.segmentStart[i] <= step && step < this.segmentStop[i]) stacked.push(i);
    }
    return stacked.sort((a, b) => this.segmentLow[a] - this.segmentLow[b]);
  }

  // Segments in RAM alive at a step, the largest first.
  aliveAt(step) {
    const alive = this.stackedAt(step).filter((i) => !this.isConstant(this.segmentBuffer[i]));
    return alive.sort((a, b) => this.takenBy(b) - this.takenBy(a));
  }

  // How much of what lies below the highest live byte of each RAM is free.
  fragmentationAt(step) {
    const tops = new Float64Array(this.nRams);
    for (let b = 0; b < this.nBuffers; b++) {
      const isAlive = this.bufferStart[b] <= step && step < this.bufferStop[b];
      if (!isAlive || this.isConstant(b)) continue;
      const m = this.bufferMemory[b];
      tops[m] = Math.max(tops[m], this.bufferLow[b] + this.bufferTaken[b]);
    }
    const top = tops.reduce((sum, each) => sum + each, 0);
    return top ? 1 - this.live[step] / top : 0;
  }

  // Buffers that had (side -1) or get (side 1) bytes of this one, the nearest in time
  // where each byte is concerned.
  neighbours(buffer, side) {
    const low = this.bufferLow[buffer];
    const high = low + this.bufferTaken[buffer];
    const found = [];
    for (let b = 0; b < this.nBuffers; b++) {
      if (this.bufferMemory[b] !== this.bufferMemory[buffer]) continue;
      const isThere =
        side < 0
          ? this.bufferStop[b] <= this.bufferStart[buffer]
          : this.bufferStart[b] >= this.bufferStop[buffer];
      if (isThere && this.bufferLow[b] < high && this.bufferLow[b] + this.bufferTaken[b] > low) {
        found.push(b);
      }
    }
    found.sort((a, b) =>
      side < 0 ? this.bufferStop[b] - this.bufferStop[a] : this.bufferStart[a] - this.bufferStart[b],
    );
    return this.firstOverEachByte(found, low, high);
  }

  firstOverEachByte(ordered, low, high) {
    let open = [[low, high]];
    const first = [];
    for (const b of ordered) {
      const from = this.bufferLow[b];
      const to = from + this.bufferTaken[b];
      const rest = [];
      let covers = false;
      for (const [left, right] of open) {
        if (to <= left || right <= from) rest.push([left, right]);
        else {
          covers = true;
          if (left < from) rest.push([left, from]);
          if (to < right) rest.push([to, right]);
        }
      }
      open = rest;
      if (covers) first.push(b);
      if (!open.length) break;
    }
    return first;
  }

  // The tensor that a buffer holds at a step of its life.
  tensorIn(buffer, step) {
    for (let i = 0; i < this.nSegments; i++) {
      if (this.segmentBuffer[i] === buffer && this.segmentStart[i] <= step) {
        if (step < this.segmentStop[i]) return this.segmentTensor[i];
      }
    }
    return -1;
  }

  sharers(tensor) {
    const others = [];
    for (let t = 0; t < this.nTensors; t++) {
      if (t !== tensor && this.tensorBuffer[t] === this.tensorBuffer[tensor]) others.push(t);
    }
    return others;
  }
}
