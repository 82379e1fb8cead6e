// The map, painted by hand into pixels.
//
// A rectangle of a pixel or more has its edges on pixels, and is filled. What is smaller
// adds to the pixels that it covers in part; those shares are summed up as differences
// in both directions, 16 numbers a rectangle whatever its length, so that a million
// rectangles far below a pixel come out as their mean colour.

const FRAME_FROM = 5; // CSS pixels: smaller rectangles touch each other

function paintMap(chart, width, height) {
  const { plan, view, ratio, theme, hatchedKind } = chart;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const perPlace = width / (view.right - view.left);
  const perByte = height / (view.high - view.low);
  const packed = theme.kinds.map((colour) => packColour(colour));
  const hatch = packColour(theme.hatch);
  const free = packColour(theme.free);
  paintBackground(pixels, chart, width, height, perPlace, perByte);
  paintGaps(pixels, chart, width, height, perByte);
  const small = new SmallRectangles(width, height, theme.kinds);
  const large = [];
  const { segmentLeft, segmentRight, segmentLow, segmentHigh } = chart;
  const { segmentKind } = plan;
  for (let i = 0; i < plan.nSegments; i++) {
    if (segmentRight[i] <= view.left || segmentLeft[i] >= view.right) continue;
    if (segmentHigh[i] <= view.low || segmentLow[i] >= view.high) continue;
    const left = Math.max((segmentLeft[i] - view.left) * perPlace, 0);
    const right = Math.min((segmentRight[i] - view.left) * perPlace, width);
    const top = Math.max(height - (segmentHigh[i] - view.low) * perByte, 0);
    const bottom = Math.min(height - (segmentLow[i] - view.low) * perByte, height);
    const x0 = Math.round(left);
    const x1 = Math.round(right);
    const y0 = Math.round(top);
    const y1 = Math.round(bottom);
    if (right - left < 1 || bottom - top < 1 || x0 === x1 || y0 === y1) {
      small.add(segmentKind[i], left, right, top, bottom);
      continue;
    }
    const isFramed = Math.min(x1 - x0, y1 - y0) >= FRAME_FROM * ratio;
    const frame = isFramed ? Math.max(Math.round(ratio * 0.75), 1) : 0;
    const colour = packed[segmentKind[i]];
    const isHatched = segmentKind[i] === hatchedKind && isFramed;
    for (let y = y0; y < y1; y++) {
      const row = y * width;
      if (y < y0 + frame) {
        pixels.fill(free, row + x0, row + x1);
        continue;
      }
      pixels.fill(colour, row + x0, row + x1 - frame);
      if (frame) pixels.fill(free, row + x1 - frame, row + x1);
      if (isHatched) hatchRow(pixels, row, y, x0, x1 - frame, hatch, ratio);
    }
    if (x1 - x0 > 36 * ratio && y1 - y0 > 13 * ratio) large.push(i);
  }
  small.blendInto(image.data);
  return { image, large };
}

function hatchRow(pixels, row, y, x0, x1, hatch, ratio) {
  const apart = Math.round(HATCH_APART * ratio);
  const thick = Math.max(Math.round(ratio), 1);
  for (let x = x0 + ((apart - ((x0 + y) % apart)) % apart); x < x1; x += apart) {
    for (let more = 0; more < thick && x + more < x1; more++) pixels[row + x + more] = hatch;
  }
}

// Free memory, a little darker where layers are recomputed.
const darker = (colour, theme) => mix(colour, theme.ink, 0.07);

// Free memory of each memory; gaps between steps are as the page around the map.
function paintBackground(pixels, chart, width, height, perPlace, perByte) {
  const { plan, view, theme, axis } = chart;
  const nothing = packColour(theme.page);
  const bands = new Int8Array(width);
  for (let x = 0; x < width; x++) {
    const step = axis.stepAt(view.left + (x + 0.5) / perPlace);
    bands[x] = step < 0 ? -1 : plan.stepBand[step];
  }
  for (const { low, high, fill } of chart.backgrounds()) {
    const [top, bottom] = rowsOf(low, high, view, height, perByte);
    if (top >= bottom) continue;
    const colours = plan.vocabulary.bands.map((band) =>
      packColour(band === "recompute" ? darker(fill, theme) : fill),
    );
    const first = top * width;
    for (let x = 0; x < width; x++) pixels[first + x] = bands[x] < 0 ? nothing : colours[bands[x]];
    for (let y = top + 1; y < bottom; y++) pixels.copyWithin(y * width, first, first + width);
  }
}

// The rows of pixels that a part of the axis of bytes covers.
function rowsOf(low, high, view, height, perByte) {
  const top = Math.max(Math.round(height - (high - view.low) * perByte), 0);
  return [top, Math.min(Math.round(height - (low - view.low) * perByte), height)];
}

// What belongs to no memory is as the page around the map.
function paintGaps(pixels, { gaps, view, theme }, width, height, perByte) {
  const nothing = packColour(theme.page);
  for (const [low, high] of gaps) {
    const [top, bottom] = rowsOf(low, high, view, height, perByte);
    if (top < bottom) pixels.fill(nothing, top * width, bottom * width);
  }
}

function packColour(colour) {
  const [r, g, b] = rgbOf(colour);
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // all who run this are little-endian
}

class SmallRectangles {
  constructor(width, height, colours) {
    this.width = width;
    this.height = height;
    this.colours = colours.map(rgbOf);
    this.sums = null; // made for the first rectangle
  }

  add(kind, left, right, top, bottom) {
    const stride = this.width + 2;
    this.sums ??= new Float64Array(4 * stride * (this.height + 2));
    const [r, g, b] = this.colours[kind];
    const x0 = Math.floor(left);
    const x1 = Math.floor(right);
    const y0 = Math.floor(top);
    const y1 = Math.floor(bottom);
    const inX0 = left - x0;
    const inX1 = right - x1;
    const inY0 = top - y0;
    const inY1 = bottom - y1;
    this.addRow(4 * (y0 * stride + x0), 1 - inY0, inX0, inX1, x1 - x0, r, g, b);
    this.addRow(4 * ((y0 + 1) * stride + x0), inY0, inX0, inX1, x1 - x0, r, g, b);
    this.addRow(4 * (y1 * stride + x0), inY1 - 1, inX0, inX1, x1 - x0, r, g, b);
    this.addRow(4 * ((y1 + 1) * stride + x0), -inY1, inX0, inX1, x1 - x0, r, g, b);
  }

  addRow(at, weight, inX0, inX1, across, r, g, b) {
    this.addOne(at, weight * (1 - inX0), r, g, b);
    this.addOne(at + 4, weight * inX0, r, g, b);
    this.addOne(at + 4 * across, weight * (inX1 - 1), r, g, b);
    this.addOne(at + 4 * across + 4, -weight * inX1, r, g, b);
  }

  addOne(at, weight, r, g, b) {
    const sums = this.sums;
    sums[at] += weight * r;
    sums[at + 1] += weight * g;
    sums[at + 2] += weight * b;
    sums[at + 3] += weight;
  }

  blendInto(data) {
    if (!this.sums) return;
    const { sums, width, height } = this;
    const stride = 4 * (width + 2);
    const column = new Float64Array(stride);
    for (let y = 0; y < height; y++) {
      let r = 0;
      let g = 0;
      let b = 0;
      let cover = 0;
      for (let x = 0, at = y * stride, c = 0; x < width; x++, at += 4, c += 4) {
        r += column[c] += sums[at];
        g += column[c + 1] += sums[at + 1];
        b += column[c + 2] += sums[at + 2];
        cover += column[c + 3] += sums[at + 3];
        if (cover < 1e-4) continue;
        // Edges of large rectangles are rounded, so a little more than all can be covered.
        const full = Math.max(cover, 1);
        const under = 1 - cover / full;
        const pixel = 4 * (y * width + x);
        data[pixel] = data[pixel] * under + r / full;
        data[pixel + 1] = data[pixel + 1] * under + g / full;
        data[pixel + 2] = data[pixel + 2] * under + b / full;
      }
    }
  }
}
