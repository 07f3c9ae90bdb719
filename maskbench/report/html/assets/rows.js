// Dots with intervals in named rows, and points of any two numbers.
const ROW = 30;

function rows(spec) {
  const all = spec.series;
  const look = looks(all);
  const one = spec.rows === null;
  const on = new Set(all.slice(0, one ? all.length : SHOWN_AT_FIRST).keys());
  let at = null;
  const key = (i) => lineKey(look[i]);
  const seen = () => all.map((_, i) => i).filter((i) => on.has(i) && passing.groups.has(all[i].group));

  const { box, redraw } = canvas(spec.title, (width) => {
    const drawn = seen(), name = `${spec.title}; the values are in the table below.`;
    const names = one ? drawn.map((i) => groupOf(all[i].group).label) : spec.rows;
    const xs = reach(drawn.flatMap((i) => [...all[i].y, ...(all[i].seeds || [])]), drawn.flatMap((i) => [...low(all[i]), ...high(all[i])]));
    if (!xs) return empty(name, width);
    const base = names.length * ROW + 8, height = base + 42;
    const within = (v) => Math.max(xs[0], Math.min(xs[1], v));
    const spots = names.flatMap((label, row) => drawn.map((i, k) => ({ i, k, place: one ? (k === row ? 0 : -1) : all[i].x.indexOf(row) })).filter(({ place }) => place >= 0).map(({ i, k, place }) => ({
      value: all[i].y[place], lo: low(all[i])[place], hi: high(all[i])[place], seeds: (all[i].seeds || []).filter(finite), ...look[i],
      y: row * ROW + 23 + (one ? 0 : (k - (drawn.length - 1) / 2) * Math.min(3, 10 / drawn.length)),
      open: () => openGroup(all[i].group), tell: [el('b', {}, label), el('div', {}, key(i), `${one ? spec.xlabel : groupOf(all[i].group).label}: ${reading(all[i], place)}`)],
    })));
    const seeds = spots.flatMap((spot) => spot.seeds.map((value) => ({ ...spot, value })));
    const root = chart(name, {
      width, height, marginLeft: 10, marginRight: 14, marginTop: 4, marginBottom: height - base,
      x: { domain: xs, inset: 6 }, y: { type: 'identity', axis: null },
      marks: [
        Plot.gridX({ ...GRID, ticks: Math.max(2, Math.floor(width / 80)) }), Plot.axisX({ ...AXIS, ticks: Math.max(2, Math.floor(width / 80)), tickFormat: tickText, label: spec.xlabel }),
        Plot.text(names, { y: (_, row) => row * ROW + 10, text: (label) => clip(label, width / 6.4), frameAnchor: 'left', textAnchor: 'start', className: 'name' }),
        Plot.dot(seeds, { x: 'value', y: 'y', r: 2.2, fill: 'colour', fillOpacity: 0.45, className: 'seed' }),
        Plot.link(spots.filter((spot) => finite(spot.lo)), { x1: (spot) => within(spot.lo), x2: (spot) => within(spot.hi), y1: 'y', y2: 'y', stroke: 'colour', strokeWidth: 1.6 }),
        Plot.dot(spots, { x: 'value', y: 'y', r: 4.2, fill: 'colour', symbol: (spot) => SYMBOLS[spot.mark], className: 'mean' }),
      ],
    });
    hovering(root, placed(root, spots, 'value'), width, (spot) => { at = spot; }, () => at, height);
    return root;
  });
  onFilter(redraw);
  const items = all.map((series, i) => ({ label: groupOf(series.group).label, swatch: key(i) }));
  const toggle = (i) => { if (on.has(i)) on.delete(i); else on.add(i); redraw(); };
  return [box, one || all.length < 2 ? null : legend(items, (i) => on.has(i), toggle, 'groups')];
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, Math.floor(most) - 1))}…` : text);

// Spots where the plot has them: {x, y} in its pixels, beside what they hold.
function placed(root, spots, x, y) {
  const across = root.scale('x').apply, down = y ? root.scale('y').apply : null;
  return spots.map((spot) => ({ ...spot, x: across(spot[x]), y: down ? down(spot[y]) : spot.y }));
}

// Spots {x, y, tell, open}: the nearest one is read, Enter or a click opens it, arrow keys walk.
function hovering(root, spots, width, keep, now, height) {
  const ring = svg('circle', { class: 'at', r: 6.5, visibility: 'hidden' });
  root.append(ring);
  const mark = (spot) => {
    keep(spot);
    ring.setAttribute('visibility', spot ? 'visible' : 'hidden');
    if (!spot) { hideTip(); return; }
    fill(ring, { cx: spot.x, cy: spot.y });
    const place = root.getBoundingClientRect();
    showTip(place.left + spot.x * (place.width / width), place.top + spot.y * (place.height / height), spot.tell);
  };
  const nearest = (event) => {
    const place = root.getBoundingClientRect(), factor = width / place.width;
    const px = (event.clientX - place.left) * factor, py = (event.clientY - place.top) * factor;
    let best = null, reach = 40 ** 2;
    for (const spot of spots) {
      const far = (spot.x - px) ** 2 + (spot.y - py) ** 2;
      if (far < reach) { reach = far; best = spot; }
    }
    return best;
  };
  root.addEventListener('pointermove', (event) => mark(nearest(event)));
  root.addEventListener('pointerleave', () => mark(null));
  root.addEventListener('blur', () => mark(null));
  root.addEventListener('click', (event) => { const spot = nearest(event); if (spot) spot.open(); });
  root.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === 'Enter' && now()) now().open();
    if (event.key === 'Escape') mark(null);
    if (!step || !spots.length) return;
    event.preventDefault();
    const place = spots.indexOf(now());
    mark(spots[place < 0 ? 0 : (place + step + spots.length) % spots.length]);
  });
}

function points(spec) {
  let at = null;
  const kinds = [...new Set(spec.points.map((point) => point.kind))];
  const off = new Set();
  const lookOf = looks(kinds.map((name) => ({ name })));
  const look = (kind) => lookOf[kinds.indexOf(kind)];
  const { box, redraw } = canvas(spec.title, (width) => {
    const height = 360, drawn = spec.points.filter((point) => passing.runs.has(point.run) && !off.has(point.kind));
    const xs = extent(drawn.map((point) => point.x), 0.04), ys = extent(drawn.map((point) => point.y), 0.05);
    if (!xs || !ys) return empty(spec.title, width);
    const [least, most] = extent(drawn.map((point) => point.x), 0);
    const log = least > 0 && most / least > 30, room = Math.max(2, Math.floor((width - 70) / 70));
    const ends = log ? [least / 1.15, most * 1.15] : xs;
    const root = chart(spec.title, {
      width, height, marginLeft: 58, marginRight: 12, marginTop: 26, marginBottom: 42,
      x: { type: log ? 'log' : 'linear', domain: ends }, y: { domain: ys },
      marks: [Plot.gridY(GRID), Plot.axisX({ ...AXIS, ticks: log ? logTicks(...ends, room) : room, tickFormat: tickText, label: spec.xlabel + (log ? ' (logarithmic)' : '') }),
        Plot.axisY({ ticks: 7, tickSize: 0, tickFormat: tickText, label: spec.ylabel, labelArrow: 'none' }),
        Plot.dot(drawn, { x: 'x', y: 'y', r: 4, fill: (point) => look(point.kind).colour, symbol: (point) => SYMBOLS[look(point.kind).mark], fillOpacity: 0.75 })],
    });
    const spots = drawn.map((point) => ({ ...point, open: () => openRun(point.run), tell: [
      el('b', {}, DATA.runs[point.run].dir), el('div', {}, dotKey(look(point.kind)), `${spec.xlabel}: ${show(point.x)}`), el('div', {}, `${spec.ylabel}: ${show(point.y)}`)] }));
    hovering(root, placed(root, spots, 'x', 'y').sort((a, b) => a.x - b.x), width, (spot) => { at = spot; }, () => at, height);
    return root;
  });
  onFilter(redraw);
  const items = kinds.map((kind) => ({ label: kind, swatch: dotKey(look(kind)) }));
  const toggle = (i) => { if (off.has(kinds[i])) off.delete(kinds[i]); else off.add(kinds[i]); redraw(); };
  return [box, kinds.length > 1 ? legend(items, (i) => !off.has(kinds[i]), toggle, 'kinds') : null];
}
