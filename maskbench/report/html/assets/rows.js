// Dots with intervals in named rows, and points of any two numbers.
const ROW = 30;

function rows(spec) {
  const all = spec.series;
  const look = looks(all);
  const one = spec.rows === null;
  const on = new Set(all.slice(0, one ? all.length : SHOWN_AT_FIRST).keys());
  let at = null;
  const paint = (node, i, kind) => { node.classList.add(`${kind}${look[i].colour}`); return node; };
  const key = (i) => lineKey(look[i], (node, kind) => paint(node, i, kind));
  const seen = () => all.map((_, i) => i).filter((i) => on.has(i) && passing.groups.has(all[i].group));

  const { box, redraw } = canvas(spec.title, (width) => {
    const drawn = seen();
    const names = one ? drawn.map((i) => groupOf(all[i].group).label) : spec.rows;
    const left = 10, right = width - 14, base = names.length * ROW + 8, height = base + 42;
    const root = surface(width, height, `${spec.title}; the values are in the table below.`);
    const xs = reach(drawn.flatMap((i) => [...all[i].y, ...(all[i].seeds || [])]), drawn.flatMap((i) => [...low(all[i]), ...high(all[i])]));
    if (!xs) return root;
    const x = scale(xs[0], xs[1], left + 6, right - 6, false);
    const within = (v) => Math.max(xs[0], Math.min(xs[1], v));
    const marks = ticks(xs[0], xs[1], Math.max(2, Math.floor(width / 80)));
    for (const mark of marks) root.append(svg('line', { class: 'grid', x1: x(mark), x2: x(mark), y1: 4, y2: base }));
    const spots = [];
    names.forEach((name, row) => {
      root.append(svg('text', { class: 'name', x: left, y: row * ROW + 14 }, clip(name, width / 6.4)));
      drawn.forEach((i, k) => {
        if (one && k !== row) return;
        const place = one ? 0 : all[i].x.indexOf(row);
        if (place < 0) return;
        const cy = row * ROW + 23 + (one ? 0 : (k - (drawn.length - 1) / 2) * Math.min(3, 10 / drawn.length));
        const value = all[i].y[place], lo = low(all[i])[place], hi = high(all[i])[place];
        for (const seed of all[i].seeds || []) if (finite(seed)) root.append(svg('circle', { class: `seed f${look[i].colour}`, cx: x(seed), cy, r: 2.2 }));
        if (finite(lo)) root.append(svg('line', { class: `s${look[i].colour}`, x1: x(within(lo)), x2: x(within(hi)), y1: cy, y2: cy, 'stroke-width': 1.6 }));
        const dot = paint(marker(look[i].mark, x(value), cy, 4.2), i, 'f');
        root.append(dot);
        spots.push({ x: x(value), y: cy, dot, open: () => openGroup(all[i].group), tell: [el('b', {}, one ? name : `${name}`), el('div', {}, key(i), `${one ? spec.xlabel : groupOf(all[i].group).label}: ${reading(all[i], place)}`)] });
      });
    });
    xAxis(root, x, marks, base, spec.xlabel, left, right);
    hovering(root, spots, width, (spot) => { at = spot; }, () => at, height);
    return root;
  });
  onFilter(redraw);
  const items = all.map((series, i) => ({ label: groupOf(series.group).label, swatch: key(i) }));
  const toggle = (i) => { if (on.has(i)) on.delete(i); else on.add(i); redraw(); };
  return [box, one || all.length < 2 ? null : legend(items, (i) => on.has(i), toggle, 'groups')];
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, Math.floor(most) - 1))}…` : text);

// Spots {x, y, dot, tell, open}: the nearest one is read, Enter or a click opens it, arrow keys walk.
function hovering(root, spots, width, keep, now, height) {
  const mark = (spot) => {
    root.querySelectorAll('.at').forEach((node) => node.classList.remove('at'));
    keep(spot);
    if (!spot) { hideTip(); return; }
    spot.dot.classList.add('at');
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
  const dotOf = (kind, ...place) => { const look = lookOf[kinds.indexOf(kind)], dot = marker(look.mark, ...place); dot.classList.add(`f${look.colour}`); return dot; };
  const key = (kind) => svg('svg', { class: 'key', viewBox: '0 0 12 12', width: 12, height: 12, 'aria-hidden': 'true' }, dotOf(kind, 6, 6, 4));
  const { box, redraw } = canvas(spec.title, (width) => {
    const height = 360, left = 58, right = width - 12, top = 26, base = height - 42;
    const root = surface(width, height, spec.title);
    const drawn = spec.points.filter((point) => passing.runs.has(point.run) && !off.has(point.kind));
    const xs = extent(drawn.map((point) => point.x), 0.04), ys = extent(drawn.map((point) => point.y), 0.05);
    if (!xs || !ys) return root;
    const least = Math.min(...drawn.map((point) => point.x)), most = Math.max(...drawn.map((point) => point.x));
    const log = least > 0 && most / least > 30;
    const x = log ? scale(least / 1.15, most * 1.15, left, right, true) : scale(xs[0], xs[1], left, right, false);
    const y = scale(ys[0], ys[1], base, top, false);
    const room = Math.max(2, Math.floor((right - left) / 70));
    yAxis(root, y, ticks(ys[0], ys[1], 7), left, right, spec.ylabel);
    xAxis(root, x, log ? logTicks(least / 1.15, most * 1.15, room) : ticks(xs[0], xs[1], room), base, spec.xlabel + (log ? ' (logarithmic)' : ''), left, right);
    const spots = drawn.map((point) => {
      const dot = dotOf(point.kind, x(point.x), y(point.y), 4);
      dot.setAttribute('fill-opacity', 0.75);
      root.append(dot);
      return { x: x(point.x), y: y(point.y), dot, open: () => openRun(point.run), tell: [
        el('b', {}, DATA.runs[point.run].dir), el('div', {}, key(point.kind), `${spec.xlabel}: ${show(point.x)}`), el('div', {}, `${spec.ylabel}: ${show(point.y)}`)] };
    });
    hovering(root, spots.sort((a, b) => a.x - b.x), width, (spot) => { at = spot; }, () => at, height);
    return root;
  });
  onFilter(redraw);
  const items = kinds.map((kind) => ({ label: kind, swatch: key(kind) }));
  const toggle = (i) => { if (off.has(kinds[i])) off.delete(kinds[i]); else off.add(kinds[i]); redraw(); };
  return [box, kinds.length > 1 ? legend(items, (i) => !off.has(kinds[i]), toggle, 'kinds') : null];
}
