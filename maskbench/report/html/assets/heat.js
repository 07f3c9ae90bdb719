// Tables of numbers as colours, and the picture of what each input pixel keeps.
const TOP = 20;  // above the cells: what the rows are

function heat(spec) {
  const { cells } = spec;
  const known = cells.flat().filter(finite);
  const low = spec.low ?? Math.min(...known), high = spec.high ?? Math.max(...known);
  const share = (value) => (high > low ? Math.max(0, Math.min(1, (value - low) / (high - low))) : 1);
  const colour = (value) => (share(value) > 0.5 ? 'var(--on-high)' : 'var(--on-low)');
  const flat = cells.flatMap((row, i) => row.map((value, j) => ({ i, j, value }))).filter(({ value }) => finite(value));
  let at = null;
  const { box } = canvas(spec.title, (width) => {
    const count = cells[0].length, lead = Math.min(120, 14 + 6.4 * Math.max(...spec.rows.map((name) => String(name).length)));
    const side = Math.max(5, Math.min(44, (width - lead - 8) / count, 420 / cells.length));
    const base = TOP + side * cells.length, height = base + 40, right = lead + side * count;
    const every = (names, least) => [...names.keys()].filter((i) => i % Math.max(1, Math.ceil(least / side)) === 0);
    const widest = 8 + 6.4 * Math.max(...spec.columns.map((name) => String(name).length));
    const root = chart(`${spec.title}: ${spec.ylabel} by ${spec.xlabel}. Arrow keys read the cells.`, {
      width, height, marginLeft: lead, marginTop: TOP, marginRight: width - right, marginBottom: 40,
      x: { type: 'band', domain: [...spec.columns.keys()], padding: 0, round: false }, y: { type: 'band', domain: [...spec.rows.keys()], padding: 0, round: false },
      marks: [
        Plot.axisX({ ...AXIS, tickSize: 0, ticks: every(spec.columns, widest), tickFormat: (j) => String(spec.columns[j]), label: spec.xlabel }),
        Plot.axisY({ labelArrow: 'none', labelAnchor: 'top', tickSize: 0, ticks: every(spec.rows, 12), tickFormat: (i) => clip(String(spec.rows[i]), 16), label: spec.ylabel, labelOffset: lead }),
        Plot.cell(flat, { x: 'j', y: 'i', inset: spec.picture ? 0 : 0.25, fill: ({ value }) => colourBetween(share(value)), className: 'cells' }),
        side >= 34 ? Plot.text(flat, { x: 'j', y: 'i', text: ({ value }) => spec.text(value), fill: ({ value }) => colour(value), className: 'oncell' }) : null,
      ],
    });
    const ring = svg('rect', { class: 'at', width: side, height: side, visibility: 'hidden' });
    root.append(ring);
    const read = (i, j) => {
      const known = cells[i] && finite(cells[i][j]);
      at = [i, j];
      ring.setAttribute('visibility', known ? 'visible' : 'hidden');
      if (!known) { hideTip(); return; }
      fill(ring, { x: lead + j * side, y: TOP + i * side });
      const place = ring.getBoundingClientRect();
      showTip(place.right, place.bottom, [el('b', {}, `${spec.ylabel} ${spec.rows[i]}, ${spec.xlabel} ${spec.columns[j]}`), ...spec.tell(i, j).map((line) => el('div', {}, line))]);
    };
    root.addEventListener('pointermove', (event) => {
      const place = root.getBoundingClientRect(), factor = width / place.width;
      read(Math.floor(((event.clientY - place.top) * factor - TOP) / side), Math.floor(((event.clientX - place.left) * factor - lead) / side));
    });
    root.addEventListener('pointerleave', hideTip);
    root.addEventListener('blur', hideTip);
    root.addEventListener('keydown', (event) => {
      const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!move) return;
      event.preventDefault();
      const [i, j] = at || [0, -move[1]];
      read(Math.max(0, Math.min(cells.length - 1, i + move[0])), Math.max(0, Math.min(count - 1, j + move[1])));
    });
    return root;
  });
  const ramp = el('div', { class: 'ramp' }, el('b', {}, spec.text(low)), el('i', { 'aria-hidden': 'true' }), el('b', {}, spec.text(high)), el('span', {}, spec.what));
  return [box, ramp];
}

function picture(found) {
  const share = Uint8Array.from(atob(found.share), (sign) => sign.charCodeAt(0));
  const cells = Array.from({ length: found.side }, (_, i) => Array.from(share.slice(i * found.side, (i + 1) * found.side), (v) => (v / 255) * found.most));
  const count = [...cells.keys()].map((i) => i + 1);
  return heat({ picture: true, title: `Connections of ${found.layer} kept at each input pixel`, cells, rows: count, columns: count, low: 0, high: found.most, xlabel: 'column', ylabel: 'row', text: (v) => v.toFixed(0),
    what: `connections kept, of ${found.outputs}`, tell: (i, j) => [`about ${cells[i][j].toFixed(0)} of ${found.outputs} connections`] });
}
