// The current view as a file.

const LEGEND_LINE = 22;

function legendOn(pen, plan, theme, width, top) {
  let x = 16;
  let y = top;
  plan.vocabulary.kinds.forEach((kind, k) => {
    const name = inWords(kind);
    const across = 20 + textWidth(name, 12) + 18;
    if (x + across > width) {
      x = 16;
      y += LEGEND_LINE;
    }
    pen.rect(x, y - 6, 12, 12, theme.kinds[k]);
    if (kind === "recomputed_activation") pen.hatch(x, y - 6, 12, 12, theme.hatch);
    pen.text(x + 18, y, name, { size: 12, fill: theme.ink });
    x += across;
  });
  return y + LEGEND_LINE;
}

function legendHeight(plan, width) {
  return legendOn({ rect() {}, text() {}, hatch() {} }, plan, { kinds: [] }, width, 0);
}

// Charts side by side, or one under the other as they are on the page.
function frameOf(charts, isSideBySide) {
  const width = isSideBySide
    ? charts.reduce((sum, chart) => sum + chart.width + 16, -16)
    : Math.max(...charts.map((chart) => chart.width));
  const down = isSideBySide
    ? Math.max(...charts.map((chart) => chart.height))
    : charts.reduce((sum, chart) => sum + chart.height + 16, -16);
  const top = 48;
  const legend = legendHeight(charts[0].plan, width);
  let [x, y] = [0, top];
  const places = charts.map((chart) => {
    const place = { x, y };
    if (isSideBySide) x += chart.width + 16;
    else y += chart.height + 16;
    return place;
  });
  return { width, height: top + down + legend + 12, places, legendTop: top + down + 12 };
}

function saveSvg(charts, isSideBySide, title, theme) {
  const frame = frameOf(charts, isSideBySide);
  const pen = new SvgPen(frame.width, frame.height, theme.page);
  pen.text(16, 22, title, { size: 16, fill: theme.ink, weight: 600 });
  charts.forEach((chart, i) => {
    pen.parts.push(`<g transform="translate(${frame.places[i].x} ${frame.places[i].y})">`);
    chart.drawSvg(pen);
    pen.parts.push("</g>");
  });
  legendOn(pen, charts[0].plan, theme, frame.width, frame.legendTop);
  save(new Blob([pen.finish()], { type: "image/svg+xml" }), `${fileName(title)}.svg`);
}

function savePng(charts, isSideBySide, title, theme) {
  const frame = frameOf(charts, isSideBySide);
  const ratio = Math.max(charts[0].ratio, 2);
  const canvas = document.createElement("canvas");
  canvas.width = frame.width * ratio;
  canvas.height = frame.height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const pen = new CanvasPen(context);
  pen.rect(0, 0, frame.width, frame.height, theme.page);
  pen.text(16, 22, title, { size: 16, fill: theme.ink, weight: 600 });
  charts.forEach((chart, i) => {
    const { x, y } = frame.places[i];
    const fine = chart.drawnAt(ratio);
    context.drawImage(fine.canvas, x, y, chart.width, chart.height);
    context.drawImage(fine.overlay, x, y, chart.width, chart.height);
  });
  legendOn(pen, charts[0].plan, theme, frame.width, frame.legendTop);
  canvas.toBlob((blob) => save(blob, `${fileName(title)}.png`), "image/png");
}

const fileName = (title) => title.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 60) || "memory_plan";

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
