// The Pareto front: arena to the right, overhead upwards, a button for each plan.
// Ranges, ticks and words come with the page, so that still pictures have the same.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const FRONT_HEIGHT = 300;
const TICK_PIXELS = 74; // room of a label on the axis of bytes

function svgElement(tag, attributes, text) {
  const made = document.createElementNS(SVG_NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Draw the front; `choose` gets the number of a plan, `tell` that of one pointed at, or null.
function drawFront(page, chosen, width, choose, tell) {
  const { front, front_axes: axes } = page;
  const box = { left: 58, right: width - 18, top: 26, bottom: FRONT_HEIGHT - 62 };
  const across = (box.right - box.left) / (axes.high_bytes - axes.low_bytes);
  const xOf = (bytes) => box.left + (bytes - axes.low_bytes) * across;
  const yOf = (share) => box.bottom - (share / axes.top) * (box.bottom - box.top);
  const name = `${axes.bytes_name} and ${axes.share_name} of ${front.length} plans`;
  const svg = svgElement("svg", { width, height: FRONT_HEIGHT, role: "group", "aria-label": name });
  const line = (x1, y1, x2, y2, kind) => svg.append(svgElement("line", { x1, y1, x2, y2, class: kind }));
  const text = (x, y, said, anchor) => svg.append(svgElement("text", { x, y, "text-anchor": anchor }, said));

  for (const [share, said] of axes.share_ticks) {
    line(box.left, yOf(share), box.right, yOf(share), "grid");
    text(box.left - 8, yOf(share) + 4, said, "end");
  }
  const apart = axes.byte_ticks.length > 1 ? (axes.byte_ticks[1][0] - axes.byte_ticks[0][0]) * across : width;
  const every = Math.ceil(TICK_PIXELS / apart);
  axes.byte_ticks.forEach(([bytes, said], i) => {
    line(xOf(bytes), box.top, xOf(bytes), box.bottom, "grid");
    if (i % every === 0) text(xOf(bytes), box.bottom + 17, said, "middle");
  });
  text(box.right, box.bottom + 34, axes.bytes_name, "end");
  text(box.left, box.top - 10, axes.share_name, "start");

  const upright = (bytes, kind, said, aside) => {
    const x = xOf(bytes);
    line(x, box.top, x, box.bottom, kind);
    const turn = { x: x + aside, y: box.top + 2, "text-anchor": "end", class: "upright" };
    svg.append(svgElement("text", { ...turn, transform: `rotate(-90 ${turn.x} ${turn.y})` }, said));
  };
  const bound = axes.local_lower_bound_bytes;
  upright(bound, "bound dotted", `local lower bound ${tickBytes(bound)}`, -4);
  const budget = axes.budget_bytes;
  if (budget !== null && budget <= axes.high_bytes) {
    const aside = Math.abs(xOf(budget) - xOf(bound)) < 18 ? 12 : -4;
    upright(budget, "budget", `budget ${tickBytes(budget)}`, aside);
  }

  const sorted = [...front].sort((a, b) => a.arena_bytes - b.arena_bytes);
  const stairs = (sizes, kind) => {
    const corners = [];
    sorted.forEach((point, i) => {
      const x = xOf(Math.min(...sizes.slice(i)));
      corners.push(`${x},${i ? yOf(sorted[i - 1].overhead) : box.top}`, `${x},${yOf(point.overhead)}`);
    });
    corners.push(`${box.right},${yOf(sorted.at(-1).overhead)}`);
    svg.append(svgElement("polyline", { points: corners.join(" "), class: kind }));
  };
  const hasGaps = front.some((point) => point.live_lower_bound_bytes < point.arena_bytes);
  if (hasGaps) stairs(sorted.map((point) => point.live_lower_bound_bytes), "bound dashed");
  stairs(sorted.map((point) => point.arena_bytes), "front");

  for (const point of sorted) {
    const index = front.indexOf(point);
    const kinds = ["point"];
    if (index === chosen) kinds.push("chosen");
    if (index === axes.fastest) kinds.push("fastest");
    const circle = svgElement("circle", {
      cx: xOf(point.arena_bytes),
      cy: yOf(point.overhead),
      r: index === chosen ? 8 : 6,
      class: kinds.join(" "),
      tabindex: 0,
      role: "button",
      "aria-label": frontText(page, index),
      "aria-pressed": String(index === chosen),
      "data-point": index,
    });
    circle.append(svgElement("title", {}, frontText(page, index)));
    circle.addEventListener("click", () => choose(index));
    for (const begin of ["pointerenter", "focus"]) circle.addEventListener(begin, () => tell(index));
    for (const end of ["pointerleave", "blur"]) circle.addEventListener(end, () => tell(null));
    circle.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        event.stopPropagation();
        choose(index);
      }
    });
    svg.append(circle);
  }

  let x = box.left;
  const legend = [["bound dotted", "no plan is smaller"]];
  if (hasGaps) legend.unshift(["bound dashed", "live lower bound of each plan"]);
  for (const [kind, said] of legend) {
    line(x, FRONT_HEIGHT - 8, x + 22, FRONT_HEIGHT - 8, kind);
    text(x + 28, FRONT_HEIGHT - 4, said, "start");
    x += 28 + 6 * said.length + 24;
  }
  return svg;
}

// A plan of the front in a line: what it takes, what it recomputes, why it is there.
function frontText(page, index) {
  const { front, front_axes: axes } = page;
  const point = front[index];
  const budget = index === axes.fastest ? ` The fastest within ${formatBytes(axes.budget_bytes)}.` : "";
  const share = `${formatPercent(point.overhead)} ${axes.share_name}`;
  return `${point.label}: ${axes.bytes_name} ${exactBytes(point.arena_bytes)}, ${share}; ${point.reason}.${budget}`;
}
