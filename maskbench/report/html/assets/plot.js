// What all plots share: Observable Plot with the page's colours, their reach, the legend, drawing to a width.
const COLOURS = 8;
const DASHES = [null, '7 3', '2 3', '9 3 2 3', '12 5', '5 2 1 2 1 2'];
const SYMBOLS = ['circle', 'square', 'triangle', 'diamond'];
const OUTLINES = [Plot.symbolCircle, Plot.symbolSquare, Plot.symbolTriangle, Plot.symbolDiamond];
const GRID = { stroke: 'var(--line)', strokeOpacity: 1 };
const AXIS = { labelArrow: 'none', labelAnchor: 'center', labelOffset: 35, tickSize: 4 };

// A plot as SVG. Colours are variables of the page's style, so light, dark and paper need no new drawing; `aria-label` says
// what it shows. Plot's own style element has the text of chart.css, which the content policy allows by hash.
function chart(name, options) {
  const root = fill(Plot.plot({ className: 'chart', ...options }), { role: 'img', 'aria-label': name, tabindex: 0 });
  // Plot names its parts by aria-label, which parts without a role may not have
  for (const part of root.querySelectorAll('g[aria-label]')) { part.dataset.part = part.getAttribute('aria-label'); part.removeAttribute('aria-label'); }
  return root;
}
const empty = (name, width) => chart(name, { width, height: 300, marks: [Plot.text(['nothing to show: all series are off or filtered out'], { frameAnchor: 'middle', lineWidth: width / 12 })] });

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

// Marks of a logarithmic axis, at most `count`: every 1, 2 and 5, or fewer.
function logTicks(low, high, count) {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high) + 1; power++) powers.push(power);
  const having = (digits) => powers.flatMap((power) => digits.map((digit) => Number((digit * 10 ** power).toPrecision(12)))).filter((v) => v >= low * 0.999 && v <= high * 1.001);
  const found = [[1, 2, 5], [1, 3], [1]].map(having).find((marks) => marks.length <= count) || having([1]);
  return found.length ? found.filter((_, i) => i % Math.ceil(found.length / count) === 0) : [low, high];
}

// Numbers on an axis: short, large ones in thousands.
function tickText(value) {
  const size = Math.abs(value);
  if (size && (size >= 1e6 || size < 1e-4)) return Number(value.toPrecision(4)).toExponential().replace('+', '');
  return size >= 1e4 ? `${Number((value / 1e3).toPrecision(4))}k` : String(Number(value.toPrecision(4)));
}

// ---- looks

// Colour and dashes follow what tells the series apart; where that is two things, the group has colour and mark, the name
// the dashes. A group looks the same in all plots of its board, whichever of the others are there.
const placeInBoard = DATA.groups.map((group, i) => i - DATA.groups.findIndex((other) => other.board === group.board));

function looks(series) {
  const groups = [...new Set(series.map((one) => one.group))], names = [...new Set(series.map((one) => one.name))];
  const alone = groups.length === 1 || names.length === 1;  // one thing tells all apart
  return series.map((one) => {
    const at = groups.length > 1 ? placeInBoard[one.group] : names.indexOf(one.name), turn = Math.floor(at / COLOURS);
    return { colour: `var(--c${at % COLOURS})`, mark: (at + turn) % SYMBOLS.length, dash: DASHES[(alone ? at + turn : names.indexOf(one.name)) % DASHES.length] };
  });
}

const colourBetween = (share) => `color-mix(in oklab, var(--high) ${(100 * share).toFixed(1)}%, var(--low))`;

function labelOf(series, all) {
  const label = series.group === undefined ? '' : groupOf(series.group).label;
  const several = new Set(all.map((one) => one.group)).size > 1;
  if (!series.name) return label;
  return several ? `${label} · ${series.name}` : series.name;
}

// ---- the legend

const symbolAt = (look, x, r = 2.8) => svg('path', { d: Plot.symbol(OUTLINES[look.mark], Math.PI * r ** 2)(), transform: `translate(${x} 6)`, fill: look.colour });

// A piece of the line as the plot has it, with its mark.
const lineKey = (look) => svg('svg', { class: 'key', viewBox: '0 0 34 12', width: 34, height: 12, 'aria-hidden': 'true' },
  svg('line', { x1: 0, x2: 34, y1: 6, y2: 6, stroke: look.colour, 'stroke-width': 1.7, 'stroke-dasharray': look.dash }), symbolAt(look, 17));
const dotKey = (look) => svg('svg', { class: 'key', viewBox: '0 0 12 12', width: 12, height: 12, 'aria-hidden': 'true' }, symbolAt(look, 6, 4));

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

// ---- width

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
