// Lines with bands over a number: hover or arrow keys read the values, the legend switches series.
const SHOWN_AT_FIRST = 8;
const READ = 14;  // values that a tip lists

function lines(spec) {
  const all = spec.series;
  const look = looks(all);
  const share = spec.ordered ? all.map((_, i) => (all.length > 1 ? i / (all.length - 1) : 1)) : null;
  const first = spec.ordered ? all.map((_, i) => i) : all.map((_, i) => i).sort((a, b) => rank(all, a) - rank(all, b) || a - b);
  const on = new Set(first.slice(0, spec.ordered ? all.length : SHOWN_AT_FIRST));
  let at = null;
  const seen = () => all.map((_, i) => i).filter((i) => on.has(i) && (all[i].group === undefined || passing.groups.has(all[i].group)));
  const paint = (node, i, kind) => {
    if (!share) node.classList.add(`${kind}${look[i].colour}`);
    else node.style[kind === 's' ? 'stroke' : 'fill'] = colourBetween(0.35 + 0.65 * share[i]);
    if (kind === 's') node.classList.add(`dash${look[i].dash}`);
    return node;
  };
  const key = (i) => lineKey(look[i], (node, kind) => paint(node, i, kind));

  const { box, redraw } = canvas(spec.title, (width) => {
    const height = 300, left = 52, right = width - 12, top = 26, base = height - 42;
    const root = surface(width, height, `${spec.title}. ${spec.ylabel} against ${spec.xlabel}; the values are in the table below.`);
    const drawn = seen();
    const xs = extent(drawn.flatMap((i) => all[i].x), 0);
    const ys = reach(drawn.flatMap((i) => all[i].y), drawn.flatMap((i) => [...low(all[i]), ...high(all[i])]));
    if (!xs || !ys) { root.append(svg('text', { x: width / 2, y: height / 2, 'text-anchor': 'middle' }, 'nothing to show: all series are off or filtered out')); return root; }
    const log = spec.log && xs[0] > 0;
    const [start, end] = spec.down ? [right, left] : [left, right];
    const x = scale(xs[0], xs[1], start + (spec.down ? -6 : 6), end + (spec.down ? 6 : -6), log);
    const y = scale(ys[0], ys[1], base, top, false);
    const within = (v) => Math.max(ys[0], Math.min(ys[1], v));
    yAxis(root, y, ticks(ys[0], ys[1], 6), left, right, spec.ylabel);
    const whole = all.every((one) => one.x.every(Number.isInteger));
    const names = xText(spec);
    const room = Math.max(2, Math.floor((right - left) / (spec.ticks && spec.ticks.length ? 14 + 6.4 * Math.max(...spec.ticks.map((name) => name.length)) : 64)));
    const named = spec.ticks && spec.ticks.length && spec.ticks.map((_, i) => i + 1).filter((place) => place >= xs[0] && place <= xs[1] && (place - 1) % Math.ceil(spec.ticks.length / room) === 0);
    let marks = named || (log ? logTicks(xs[0], xs[1], room) : ticks(xs[0], xs[1], room, whole));
    if (spec.down && log && !marks.includes(xs[1])) marks = marks.filter((m) => m < xs[1] * 0.8).concat(xs[1]);
    xAxis(root, x, marks, base, spec.xlabel, left, right, names);
    for (const i of drawn) {
      const one = all[i], path = one.x.map((v, k) => `${x(v).toFixed(1)},${y(one.y[k]).toFixed(1)}`);
      const lo = low(one), hi = high(one);
      if (lo.some(finite)) {
        const known = one.x.map((_, k) => k).filter((k) => finite(lo[k]) && finite(hi[k]));
        const edge = [...known.map((k) => [one.x[k], hi[k]]), ...known.reverse().map((k) => [one.x[k], lo[k]])];
        if (edge.length > 2) root.append(paint(svg('polygon', { class: 'band', points: edge.map(([a, b]) => `${x(a).toFixed(1)},${y(within(b)).toFixed(1)}`).join(' ') }), i, 'f'));
      }
      root.append(paint(svg('polyline', { class: 'line', points: path.join(' ') }), i, 's'));
      if (one.x.length <= 30) one.x.forEach((v, k) => root.append(paint(marker(look[i].mark, x(v), y(one.y[k])), i, 'f')));
    }
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
