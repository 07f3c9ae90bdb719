// Lines with bands over a number: hover or arrow keys read the values, the legend switches series.
const SHOWN_AT_FIRST = 8;
const READ = 14;  // values that a tip lists

function lines(spec) {
  const all = spec.series;
  const look = looks(all);
  const first = spec.ordered ? all.map((_, i) => i) : all.map((_, i) => i).sort((a, b) => rank(all, a) - rank(all, b) || a - b);
  const on = new Set(first.slice(0, spec.ordered ? all.length : SHOWN_AT_FIRST));
  if (spec.ordered) all.forEach((_, i) => { look[i].colour = colourBetween(0.35 + 0.65 * (all.length > 1 ? i / (all.length - 1) : 1)); });
  let at = null;
  const seen = () => all.map((_, i) => i).filter((i) => on.has(i) && (all[i].group === undefined || passing.groups.has(all[i].group)));
  const key = (i) => lineKey(look[i]);

  const { box, redraw } = canvas(spec.title, (width) => {
    const height = 300, top = 26, base = height - 42;
    const name = `${spec.title}. ${spec.ylabel} against ${spec.xlabel}; the values are in the table below.`;
    const drawn = seen();
    const xs = extent(drawn.flatMap((i) => all[i].x), 0);
    const ys = reach(drawn.flatMap((i) => all[i].y), drawn.flatMap((i) => [...low(all[i]), ...high(all[i])]));
    if (!xs || !ys) return empty(name, width);
    const within = (v) => Math.max(ys[0], Math.min(ys[1], v));
    const root = chart(name, {
      width, height, marginLeft: 52, marginRight: 12, marginTop: top, marginBottom: height - base,
      x: { type: spec.log && xs[0] > 0 ? 'log' : 'linear', domain: xs, reverse: Boolean(spec.down), inset: 6 }, y: { domain: ys },
      marks: [Plot.gridY(GRID), Plot.axisX({ ...AXIS, ...xMarks(spec, xs, width - 64), label: spec.xlabel }),
        Plot.axisY({ ticks: 6, tickSize: 0, tickFormat: tickText, label: spec.ylabel, labelArrow: 'none' }),
        ...drawn.flatMap((i) => marksOf(all[i], look[i], within))],
    });
    const x = root.scale('x').apply;
    const cross = svg('line', { class: 'cross', y1: top, y2: base, visibility: 'hidden' });
    root.append(cross);
    const stops = [...new Set(drawn.flatMap((i) => all[i].x))].sort((a, b) => x(a) - x(b));
    const read = (value) => {
      at = value;
      cross.setAttribute('x1', x(value)); cross.setAttribute('x2', x(value)); cross.setAttribute('visibility', 'visible');
      const found = drawn.map((i) => [i, all[i].x.indexOf(value)]).filter(([, k]) => k >= 0).sort(([a, k], [b, l]) => all[b].y[l] - all[a].y[k]);
      const place = root.getBoundingClientRect();
      showTip(place.left + x(value) * (place.width / width), place.top + 20, [
        el('div', {}, el('b', {}, `${spec.xlabel} ${(xText(spec) || show)(value)}`)),
        ...found.slice(0, READ).map(([i, k]) => el('div', {}, key(i), `${labelOf(all[i], all) || spec.ylabel}: ${reading(all[i], k)}`)),
        ...(found.length > READ ? [el('div', {}, `and ${found.length - READ} more`)] : []),
      ]);
    };
    pointing(root, stops, x, width, read, () => { cross.setAttribute('visibility', 'hidden'); at = null; }, () => at);
    return root;
  });
  onFilter(redraw);
  const items = first.map((i) => ({ label: labelOf(all[i], all) || spec.ylabel, swatch: key(i) }));
  const toggle = (i) => { if (on.has(i)) on.delete(i); else on.add(i); redraw(); };
  return [box, all.length > 1 ? legend(items, (k) => on.has(first[k]), (k) => toggle(first[k]), 'lines') : null];
}

// A line with its band, and a mark at each of not too many points.
function marksOf(one, { colour, mark, dash }, within) {
  const places = [...one.x.keys()], x = (k) => one.x[k], y = (k) => one.y[k], lo = low(one), hi = high(one);
  const known = places.filter((k) => finite(lo[k]) && finite(hi[k]));
  return [
    known.length > 1 ? Plot.areaY(known, { x, y1: (k) => within(lo[k]), y2: (k) => within(hi[k]), fill: colour, fillOpacity: 0.16 }) : null,
    Plot.line(places, { x, y, stroke: colour, strokeWidth: 1.7, strokeDasharray: dash, className: 'line' }),
    places.length <= 30 ? Plot.dot(places, { x, y, symbol: SYMBOLS[mark], r: 2.8, fill: colour }) : null,
  ];
}

// Where the axis x has its marks, and what they say: names of rows, shares that remain, whole numbers as whole ones.
function xMarks(spec, [low, high], width) {
  const names = xText(spec), longest = spec.ticks && spec.ticks.length ? 14 + 6.4 * Math.max(...spec.ticks.map((name) => name.length)) : 64;
  const room = Math.max(2, Math.floor(width / longest));
  if (longest !== 64) return { ticks: spec.ticks.map((_, i) => i + 1).filter((place) => place >= low && place <= high && (place - 1) % Math.ceil(spec.ticks.length / room) === 0), tickFormat: names };
  if (spec.log && low > 0) {
    const marks = logTicks(low, high, room);
    return { ticks: spec.down && !marks.includes(high) ? marks.filter((mark) => mark < high * 0.8).concat(high) : marks, tickFormat: names || tickText };
  }
  const whole = high - low <= room && spec.series.every((one) => one.x.every(Number.isInteger));
  return { ticks: whole ? Array.from({ length: high - low + 1 }, (_, i) => low + i) : room, tickFormat: names || tickText };
}

// The first series of each group come before the others.
const rank = (all, i) => all.slice(0, i).filter((one) => one.group === all[i].group).length;
const low = (one) => one.lo || (one.h ? one.y.map((v, k) => (finite(one.h[k]) ? v - one.h[k] : null)) : []);
const high = (one) => one.hi || (one.h ? one.y.map((v, k) => (finite(one.h[k]) ? v + one.h[k] : null)) : []);
function xText(spec) {
  if (spec.down) return (v) => percent(100 * v);
  if (spec.ticks && spec.ticks.length) return (v) => spec.ticks[v - 1] ?? '';
  return null;
}
function reading(one, k) {
  if (one.lo) return `${show(one.y[k])} (${show(one.lo[k])} to ${show(one.hi[k])})`;
  return withInterval(one.y[k], one.h && one.h[k]) + (one.n && one.n[k] > 1 ? `, n=${one.n[k]}` : '');
}

// Pointer and arrow keys walk over `stops`, values on the x axis from left to right.
function pointing(root, stops, x, width, read, leave, now) {
  if (!stops.length) return;
  const nearest = (event) => {
    const place = root.getBoundingClientRect();
    const px = (event.clientX - place.left) * (width / place.width);
    return stops.reduce((best, stop) => (Math.abs(x(stop) - px) < Math.abs(x(best) - px) ? stop : best), stops[0]);
  };
  root.addEventListener('pointermove', (event) => read(nearest(event)));
  root.addEventListener('pointerdown', (event) => read(nearest(event)));
  const away = () => { leave(); hideTip(); };
  root.addEventListener('pointerleave', away);
  root.addEventListener('blur', away);
  root.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === 'Escape') away();
    if (!step) return;
    event.preventDefault();
    const place = stops.indexOf(now());
    read(stops[place < 0 ? (step > 0 ? 0 : stops.length - 1) : Math.max(0, Math.min(stops.length - 1, place + step))]);
  });
}
