// Where the layers of a net stand: a column for how far from the input, a lane within it.
//
// A layer stands right of all it reads, in the lane of what it reads where that is free. An
// output that is read farther on goes there along a lane of its own, one line for all of
// its readers (layered drawing after Sugiyama, with lanes given greedily from the left).
// O(layers · lanes + connections).

function placeLayers(inputs) {
  const readers = inputs.map(() => []);
  inputs.forEach((from, layer) => from.forEach((input) => readers[input].push(layer)));
  const column = columnsOf(inputs, readers);
  const inColumn = Array.from({ length: Math.max(...column, -1) + 1 }, () => []);
  column.forEach((at, layer) => inColumn[at].push(layer));
  const lane = new Int32Array(inputs.length);
  const lines = new Map(); // by layer: where its output goes on to readers far away
  const busyUntil = []; // by lane: a column
  const take = (wanted, from, to) => {
    const isFree = (at) => at >= 0 && (busyUntil[at] ?? 0) <= from;
    let far = 0;
    while (!isFree(wanted + far) && !isFree(wanted - far)) far += 1;
    const taken = isFree(wanted + far) ? wanted + far : wanted - far;
    busyUntil[taken] = to;
    return taken;
  };
  const laneInto = (layer) => {
    const near = inputs[layer].find((input) => column[input] === column[layer] - 1);
    const input = near ?? inputs[layer][0];
    return input === undefined ? 0 : (near === undefined && lines.get(input)?.lane) || lane[input];
  };
  inColumn.forEach((layers, at) => {
    const wanted = new Map(layers.map((layer) => [layer, laneInto(layer)]));
    const sorted = [...layers].sort((a, b) => wanted.get(a) - wanted.get(b) || a - b);
    for (const layer of sorted) lane[layer] = take(wanted.get(layer), at, at + 1);
    for (const layer of inColumn[at - 1] ?? []) {
      const end = Math.max(...readers[layer].map((reader) => column[reader]), 0);
      if (end > at) lines.set(layer, { first: at, last: end - 1, lane: take(lane[layer], at, end) });
    }
  });
  return { column, lane, lines, readers, inColumn, nColumns: inColumn.length, nLanes: busyUntil.length };
}

// Columns by the longest way from an input; an input stands right before its first reader.
function columnsOf(inputs, readers) {
  const column = new Int32Array(inputs.length);
  inputs.forEach((from, layer) => {
    if (from.length) column[layer] = 1 + Math.max(...from.map((input) => column[input]));
    else if (!readers[layer].length && layer) column[layer] = column[layer - 1] + 1;
  });
  inputs.forEach((from, layer) => {
    if (from.length || !readers[layer].length) return;
    column[layer] = Math.max(Math.min(...readers[layer].map((reader) => column[reader])) - 1, 0);
  });
  return column;
}
