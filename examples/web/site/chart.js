// A small line chart in SVG: axes, a grid, one series, optionally smoothed.
// It knows points and pixels; it does not know what they measure.

const SVG = 'http://www.w3.org/2000/svg';
const MARGIN = { top: 12, right: 14, bottom: 26, left: 44 };

/**
 * A chart inside `figure`.
 * @param {HTMLElement} figure
 * @param {{ name: string, smooth?: boolean, marks?: boolean, top?: number, right?: number }} options
 * `smooth` adds a running mean, `marks` a dot at each point; `top` fixes the upper end of the axis;
 * `right` gives a second axis, in a unit of which there are so many in one of the first.
 */
export function chart(figure, options) {
  const svg = figure.querySelector('svg');
  svg.setAttribute('role', 'img');
  let points = [];
  let steps = 1;
  const draw = () => render(svg, options, points, steps);
  new ResizeObserver(draw).observe(svg);
  return {
    /** Shows `next`, a list of [step, value]; the axis runs to `last` steps. */
    show(next, last) {
      points = next.filter(([, value]) => Number.isFinite(value));
      steps = Math.max(1, last);
      draw();
    },
  };
}

function render(svg, { name, smooth, marks, top, right }, points, steps) {
  const { width, height } = svg.getBoundingClientRect();
  if (width === 0) return;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const edge = { ...MARGIN, right: right ? MARGIN.left : MARGIN.right };
  const highest = top ?? points.reduce((most, [, value]) => Math.max(most, value), 1e-9);
  const ceiling = points.length === 0 && !top ? 1 : highest;
  const x = (step) => edge.left + (step / steps) * (width - edge.left - edge.right);
  const y = (value) => height - edge.bottom - (value / ceiling) * (height - edge.top - edge.bottom);

  const parts = [];
  for (const [value, label] of ticks(ceiling, 6)) {
    parts.push(element('line', { class: 'grid', x1: x(0), x2: x(steps), y1: y(value), y2: y(value) }));
    parts.push(text(label, { x: edge.left - 8, y: y(value) + 4, 'text-anchor': 'end' }));
  }
  for (const [step, label] of ticks(steps, width < 420 ? 4 : 6, 1)) {
    parts.push(text(label, { x: x(step), y: height - 8, 'text-anchor': 'middle' }));
  }
  if (right) {
    for (const [value, label] of ticks(ceiling * right, 6)) {
      parts.push(text(label, { x: width - edge.right + 8, y: y(value / right) + 4 }));
    }
  }
  if (points.length === 0) {
    const middle = { x: (x(0) + x(steps)) / 2, y: (y(0) + y(ceiling)) / 2, 'text-anchor': 'middle' };
    parts.push(text('nothing measured yet', middle));
  } else {
    const place = ([step, value]) => [x(step), y(Math.min(value, ceiling))];
    if (smooth) parts.push(line('raw', thinned(points, width).map(place)));
    const main = smooth ? smoothed(points, steps) : points;
    parts.push(line('curve', thinned(main, width).map(place)));
    const dots = marks && points.length <= 60 ? points : main.slice(-1);
    for (const [cx, cy] of dots.map(place)) {
      parts.push(element('circle', { class: 'mark', cx, cy, r: marks ? 3 : 4 }));
    }
  }
  svg.replaceChildren(...parts);
  svg.setAttribute('aria-label', described(name, points));
}

function described(name, points) {
  if (points.length === 0) return `${name}: nothing measured yet`;
  const [[first, from], [last, to]] = [points[0], points.at(-1)];
  return `${name}: ${from.toFixed(4)} at step ${first}, ${to.toFixed(4)} at step ${last}`;
}

/** The mean of the points around each one; narrower at the beginning, where the curve is steep. */
function smoothed(points, steps) {
  const reach = Math.max(2, Math.round(steps / 40));
  const sums = [0];
  for (const [, value] of points) sums.push(sums.at(-1) + value);
  return points.map(([step], at) => {
    const from = at - Math.min(reach, at);
    const to = Math.min(points.length - 1, at + Math.min(reach, at));
    return [step, (sums[to + 1] - sums[from]) / (to + 1 - from)];
  });
}

/** At most about one point a pixel, so that a long run draws as fast as a short one. */
function thinned(points, width) {
  const every = Math.ceil(points.length / Math.max(1, width));
  return every === 1 ? points : points.filter((_, at) => at % every === 0 || at === points.length - 1);
}

/** Round numbers from 0 to `end`, at most about `most` and at least `least` apart, each with its text. */
function ticks(end, most, least = 0) {
  const rough = Math.max(end / most, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power)
    .find((size) => size >= rough * (1 - 1e-9) && (least === 0 || Number.isInteger(size)));
  const decimals = Math.max(0, Math.ceil(-Math.log10(step)) + (step / power === 2.5 && power <= 1 ? 1 : 0));
  const count = Math.floor(end / step + 1e-9) + 1;
  return Array.from({ length: count }, (_, at) => [at * step, (at * step).toFixed(decimals)]);
}

function line(name, places) {
  const d = places.map(([x, y], at) => `${at === 0 ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
  return element('path', { class: name, d });
}

function text(content, attributes) {
  const made = element('text', attributes);
  made.textContent = content;
  return made;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
