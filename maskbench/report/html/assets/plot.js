// What all plots share: scales, ticks, axes, colours, the legend.
const COLOURS = 8, DASHES = 6;

function scale(low, high, from, to, log) {
  const f = log ? Math.log10 : (v) => v;
  const a = f(low), span = f(high) - a || 1;
  return (v) => from + ((f(v) - a) / span) * (to - from);
}

function ticks(low, high, count, whole) {
  const span = high - low;
  if (!(span > 0)) return [low];
  let step = 10 ** Math.floor(Math.log10(span / count));
  for (const factor of [2, 2.5, 2]) if (span / step > count) step *= factor;
  if (whole) step = Math.max(1, Math.ceil(step));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * span; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function logTicks(low, high, count) {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high) + 1; power++) powers.push(power);
  const having = (digits) => powers.flatMap((power) => digits.map((digit) => Number((digit * 10 ** power).toPrecision(12)))).filter((v) => v >= low * 0.999 && v <= high * 1.001);
  const found = [[1, 2, 5], [1, 3], [1]].map(having).find((marks) => marks.length <= count) || having([1]);
  return found.length ? found.filter((_, i) => i % Math.ceil(found.length / count) === 0) : [low, high];
}

function tickText(value, step) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(0).replace('+', '');
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))}k`;
  return step ? value.toFixed(Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)))) : String(Number(value.toPrecision(4)));
}

function extent(values, room) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (finite(value)) { if (value < low) low = value; if (value > high) high = value; }
  if (low > high) return null;
  const pad = (high - low || Math.abs(high) || 1) * room;
  return [low - pad, high + pad];
}

// The extent of values, and of their intervals as far as the values span: an interval of few seeds may be so wide that
// beside it nothing else could be told apart.
function reach(values, ends) {
  const own = extent(values, 0);
  if (!own) return null;
  const span = own[1] - own[0] || Math.abs(own[0]) || 1;
  const near = ends.filter(finite).map((v) => Math.max(own[0] - span, Math.min(own[1] + span, v)));
  return extent([...own, ...near], 0.05);
}

// Colour and dashes follow what tells the series apart; where that is two things, the group has colour and mark, the name
// the dashes. A group looks the same in all plots of its board, whichever of the others are there.
const placeInBoard = DATA.groups.map((group, i) => i - DATA.groups.findIndex((other) => other.board === group.board));

function looks(series) {
  const groups = [...new Set(series.map((one) => one.group))], names = [...new Set(series.map((one) => one.name))];
  const alone = groups.length === 1 || names.length === 1;  // one thing tells all apart
  return series.map((one) => {
    const at = groups.length > 1 ? placeInBoard[one.group] : names.indexOf(one.name), turn = Math.floor(at / COLOURS);
    return { colour: at % COLOURS, mark: (at + turn) % MARKS.length, dash: (alone ? at + turn : names.indexOf(one.name)) % DASHES };
  });
}

const colourBetween = (share) => `color-mix(in oklab, var(--high) ${(100 * share).toFixed(1)}%, var(--low))`;

function labelOf(series, all) {
  const label = series.group === undefined ? '' : groupOf(series.group).label;
  const several = new Set(all.map((one) => one.group)).size > 1;
  if (!series.name) return label;
  return several ? `${label} · ${series.name}` : series.name;
}

// A piece of the line as the plot has it, with its mark.
function lineKey(look, paint) {
  const line = svg('line', { class: 'line', x1: 0, x2: 34, y1: 6, y2: 6 });
  return svg('svg', { class: 'key', viewBox: '0 0 34 12', width: 34, height: 12, 'aria-hidden': 'true' }, paint(line, 's'), paint(marker(look.mark, 17, 6), 'f'));
}

const MARKS = [  // outlines around a point, by radius
  (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
  (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
  (r) => `M0,${-1.3 * r}L${1.3 * r},${r}H${-1.3 * r}Z`,
  (r) => `M0,${-1.4 * r}L${1.4 * r},0L0,${1.4 * r}L${-1.4 * r},0Z`,
];
const marker = (kind, x, y, r = 2.8) => svg('path', { d: MARKS[kind](r), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` });

function legend(items, isOn, toggle, what) {
  const note = el('p', { class: 'note' });
  const count = () => {
    const shown = items.filter((_, i) => isOn(i)).length;
    note.textContent = shown < items.length ? `${shown} of ${items.length} ${what} shown; press a name to show or hide it.` : '';
    note.hidden = !note.textContent;
  };
  const box = el('div', { class: 'legend', role: 'group', 'aria-label': 'Series' });
  items.forEach((item, i) => {
    const button = el('button', { type: 'button', 'aria-pressed': String(isOn(i)), onclick: () => {
      toggle(i);
      button.setAttribute('aria-pressed', String(isOn(i)));
      count();
    } }, item.swatch, item.label);
    box.append(button);
  });
  count();
  return el('div', {}, note, box);
}

function yAxis(root, y, marks, left, right, label) {
  root.append(svg('text', { class: 'title', x: 2, y: 12 }, label));
  const step = marks.length > 1 ? marks[1] - marks[0] : 0;
  for (const mark of marks) {
    root.append(svg('line', { class: 'grid', x1: left, x2: right, y1: y(mark), y2: y(mark) }));
    root.append(svg('text', { x: left - 6, y: y(mark) + 4, 'text-anchor': 'end' }, tickText(mark, step)));
  }
}

function xAxis(root, x, marks, base, label, left, right, text) {
  const step = marks.length > 1 ? Math.abs(marks[1] - marks[0]) : 0;
  root.append(svg('line', { class: 'axis', x1: left, x2: right, y1: base, y2: base }));
  for (const mark of marks) {
    root.append(svg('line', { class: 'axis', x1: x(mark), x2: x(mark), y1: base, y2: base + 4 }));
    const word = text ? text(mark) : tickText(mark, step), half = 3.2 * word.length;
    root.append(svg('text', { x: Math.min(x(mark), right + 10 - half), y: base + 16, 'text-anchor': 'middle' }, word));
  }
  root.append(svg('text', { class: 'title', x: (left + right) / 2, y: base + 33, 'text-anchor': 'middle' }, label));
}

// Redraws with the width of its place; draw(width) gives the SVG.
const unfitted = new Map();  // places that have had no width yet
function canvas(name, draw) {
  const box = el('div', { class: 'canvas' });
  let width = 0;
  const redraw = () => { if (width) box.replaceChildren(draw(width)); };
  const fit = (now) => {
    if (!now || now === width) return;
    unfitted.delete(box);
    width = now;
    redraw();
  };
  unfitted.set(box, fit);
  new ResizeObserver(() => fit(widthOf(box))).observe(box);
  return { box, redraw };
}
const widthOf = (box) => Math.floor(box.clientWidth);

// Draws what no ResizeObserver has reported yet: one reports with a frame, and in a part the browser skips not even then.
function fitAll() {
  for (const box of [...unfitted.keys()]) if (!box.isConnected) unfitted.delete(box);
  const found = [...unfitted].map(([box, fit]) => [fit, widthOf(box)]);  // all widths first: one layout for all
  for (const [fit, width] of found) fit(width);
}
const surface = (width, height, name) => svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': name, tabindex: 0 });
