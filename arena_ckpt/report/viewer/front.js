// The Pareto front: arena to the right, overhead upwards, a button for each plan.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

function svgElement(tag, attributes, text) {
  const made = document.createElementNS(SVG_NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawFront(points, chosen, width, choose) {
  const height = 230;
  const box = { left: 58, right: width - 18, top: 16, bottom: height - 40 };
  const arenas = points.map((point) => point.arena_bytes);
  const [least, most] = [Math.min(...arenas), Math.max(...arenas)];
  const room = (most - least || most || 1) * 0.06;
  const top = Math.max(...points.map((point) => point.overhead), 0.01) * 1.12;
  const xOf = (bytes) =>
    box.left + ((bytes - least + room) / (most - least + 2 * room)) * (box.right - box.left);
  const yOf = (share) => box.bottom - (share / top) * (box.bottom - box.top);
  const svg = svgElement("svg", { width, height, role: "group", "aria-label": "Pareto front" });
  for (const share of shareTicks(top)) {
    const y = yOf(share);
    svg.append(svgElement("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: "grid" }));
    const text = `${Number((100 * share).toPrecision(3))} %`;
    svg.append(svgElement("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, text));
  }
  for (const bytes of ticks(least - room, most + room, Math.max(Math.floor(width / 130), 2), true)) {
    const x = xOf(bytes);
    svg.append(svgElement("text", { x, y: box.bottom + 18, "text-anchor": "middle" }, tickBytes(bytes)));
  }
  const label = { x: box.right, y: height - 4, "text-anchor": "end" };
  svg.append(svgElement("text", label, "arena →"));
  svg.append(svgElement("text", { x: box.left + 6, y: box.top - 4 }, "↑ overhead"));
  const sorted = [...points].sort((a, b) => a.arena_bytes - b.arena_bytes);
  const steps = sorted.flatMap((point, i) => {
    const corner = i ? [`${xOf(point.arena_bytes)},${yOf(sorted[i - 1].overhead)}`] : [];
    return [...corner, `${xOf(point.arena_bytes)},${yOf(point.overhead)}`];
  });
  svg.append(svgElement("polyline", { points: steps.join(" "), class: "front" }));
  for (const point of sorted) {
    const index = points.indexOf(point);
    const text = `${point.label}: ${formatBytes(point.arena_bytes)}, ${formatPercent(point.overhead)} overhead`;
    const circle = svgElement("circle", {
      cx: xOf(point.arena_bytes),
      cy: yOf(point.overhead),
      r: index === chosen ? 8 : 6,
      class: index === chosen ? "point chosen" : "point",
      tabindex: 0,
      role: "button",
      "aria-label": text,
      "aria-pressed": String(index === chosen),
      "data-point": index,
    });
    circle.append(svgElement("title", {}, text));
    circle.addEventListener("click", () => choose(index));
    circle.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        event.stopPropagation();
        choose(index);
      }
    });
    svg.append(circle);
  }
  return svg;
}

function shareTicks(top) {
  const rough = top / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const apart = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= rough);
  const found = [];
  for (let i = 0; i * apart <= top; i++) found.push(i * apart);
  return found;
}
