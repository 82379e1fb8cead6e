// The same drawing on a canvas and as SVG.

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const ruler = document.createElement("canvas").getContext("2d");

function textWidth(text, size, weight = 400) {
  ruler.font = `${weight} ${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

// The text, or its beginning and "…", or "" where not even that fits.
function fitText(text, size, width, weight = 400) {
  if (textWidth(text, size, weight) <= width) return text;
  let from = 0;
  let to = text.length;
  while (from < to) {
    const middle = (from + to + 1) >> 1;
    if (textWidth(text.slice(0, middle) + "…", size, weight) <= width) from = middle;
    else to = middle - 1;
  }
  return from > 1 ? text.slice(0, from) + "…" : "";
}

const HATCH_APART = 7;

// Slanted lines over a rectangle, as they stand on the whole drawing: [x0, y0, x1, y1] each.
function hatchLines(x, y, width, height) {
  const lines = [];
  const last = x + width + y + height;
  for (let sum = Math.ceil((x + y) / HATCH_APART) * HATCH_APART; sum < last; sum += HATCH_APART) {
    const left = Math.max(x, sum - y - height);
    const right = Math.min(x + width, sum - y);
    if (left < right) lines.push([left, sum - left, right, sum - right]);
  }
  return lines;
}

class CanvasPen {
  constructor(context) {
    this.context = context;
  }

  rect(x, y, width, height, fill, opacity = 1) {
    this.context.globalAlpha = opacity;
    this.context.fillStyle = fill;
    this.context.fillRect(x, y, width, height);
    this.context.globalAlpha = 1;
  }

  line(x0, y0, x1, y1, stroke, width = 1, dash = []) {
    const { context } = this;
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
    context.setLineDash([]);
  }

  hatch(x, y, width, height, stroke) {
    for (const line of hatchLines(x, y, width, height)) this.line(...line, stroke);
  }

  area(points, fill) {
    const { context } = this;
    context.fillStyle = fill;
    context.beginPath();
    for (let i = 0; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
    context.closePath();
    context.fill();
  }

  dot(x, y, radius, fill, stroke) {
    const { context } = this;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = fill;
    context.fill();
    context.strokeStyle = stroke;
    context.lineWidth = 1.5;
    context.stroke();
  }

  text(x, y, text, { size = 12, fill, align = "left", weight = 400, turn = false }) {
    const { context } = this;
    context.save();
    context.font = `${weight} ${size}px ${FONT}`;
    context.fillStyle = fill;
    context.textAlign = align;
    context.textBaseline = "middle";
    context.translate(x, y);
    if (turn) context.rotate(-Math.PI / 2);
    context.fillText(text, 0, 0.5);
    context.restore();
  }
}

class SvgPen {
  constructor(width, height, page) {
    this.width = width;
    this.height = height;
    this.parts = [];
    this.rect(0, 0, width, height, page);
  }

  static number(value) {
    return Number(value.toFixed(2));
  }

  static escape(text) {
    const names = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
    // XML 1.0 has no way to write control characters.
    return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd").replace(/[&<>"]/g, (c) => names[c]);
  }

  rect(x, y, width, height, fill, opacity = 1, title = null) {
    const [left, top, across, down] = [x, y, width, height].map(SvgPen.number);
    const start = `<rect x="${left}" y="${top}" width="${across}" height="${down}" fill="${fill}"`;
    const through = opacity < 1 ? ` fill-opacity="${opacity}"` : "";
    const inside = title === null ? "/>" : `><title>${SvgPen.escape(title)}</title></rect>`;
    this.parts.push(start + through + inside);
  }

  line(x0, y0, x1, y1, stroke, width = 1, dash = []) {
    const [a, b, c, d] = [x0, y0, x1, y1].map(SvgPen.number);
    const dashes = dash.length ? ` stroke-dasharray="${dash.join(" ")}"` : "";
    this.parts.push(
      `<line x1="${a}" y1="${b}" x2="${c}" y2="${d}" stroke="${stroke}" stroke-width="${width}"${dashes}/>`,
    );
  }

  hatch(x, y, width, height, stroke) {
    const path = hatchLines(x, y, width, height).map((line) => {
      const [a, b, c, d] = line.map(SvgPen.number);
      return `M${a} ${b}L${c} ${d}`;
    });
    if (path.length) this.parts.push(`<path class="hatch" d="${path.join("")}" stroke="${stroke}" fill="none"/>`);
  }

  area(points, fill) {
    this.parts.push(`<polygon points="${points.map(SvgPen.number).join(" ")}" fill="${fill}"/>`);
  }

  dot(x, y, radius, fill, stroke) {
    const [cx, cy] = [x, y].map(SvgPen.number);
    this.parts.push(
      `<circle cx="${cx}" cy="${cy}" r="${radius}" fill="${fill}" stroke="${stroke}" stroke-width="1.5"/>`,
    );
  }

  text(x, y, text, { size = 12, fill, align = "left", weight = 400, turn = false }) {
    const [left, top] = [x, y].map(SvgPen.number);
    const anchor = { left: "start", center: "middle", right: "end" }[align];
    const turned = turn ? ` transform="rotate(-90 ${left} ${top})"` : "";
    this.parts.push(
      `<text x="${left}" y="${top}" dy="0.35em" font-size="${size}" font-weight="${weight}" ` +
        `fill="${fill}" text-anchor="${anchor}"${turned}>${SvgPen.escape(text)}</text>`,
    );
  }

  image(x, y, width, height, url) {
    this.parts.push(
      `<image x="${x}" y="${y}" width="${width}" height="${height}" preserveAspectRatio="none" href="${url}"/>`,
    );
  }

  finish() {
    const font = SvgPen.escape(FONT);
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${this.width}" height="${this.height}" ` +
      `viewBox="0 0 ${this.width} ${this.height}" font-family="${font}">\n${this.parts.join("\n")}\n</svg>\n`
    );
  }
}
