// Tables of numbers as colours, and the picture of what each input pixel keeps.
const TOP = 20;  // above the cells: what the rows are

function heat(spec) {
  const { cells } = spec;
  const known = cells.flat().filter(finite);
  const low = spec.low ?? Math.min(...known), high = spec.high ?? Math.max(...known);
  const share = (value) => (high > low ? Math.max(0, Math.min(1, (value - low) / (high - low))) : 1);
  let at = null;
  const { box } = canvas(spec.title, (width) => {
    const count = cells[0].length, lead = Math.min(120, 14 + 6.4 * Math.max(...spec.rows.map((name) => String(name).length)));
    const side = Math.max(5, Math.min(44, (width - lead - 8) / count, 420 / cells.length));
    const tall = spec.square === false ? Math.max(side, 16) : side;
    const base = TOP + tall * cells.length, height = base + 40;
    const root = surface(width, height, `${spec.title}: ${spec.ylabel} by ${spec.xlabel}. Arrow keys read the cells.`);
    if (spec.picture) root.classList.add('picture');
    const dots = cells.map((row, i) => row.map((value, j) => {
      if (!finite(value)) return null;
      const rect = svg('rect', { class: 'cell', x: lead + j * side, y: TOP + i * tall, width: side, height: tall });
      rect.style.fill = colourBetween(share(value));
      root.append(rect);
      if (side >= 34) {
        const number = svg('text', { x: lead + (j + 0.5) * side, y: TOP + (i + 0.5) * tall + 4, 'text-anchor': 'middle' }, spec.text(value));
        number.style.fill = share(value) > 0.5 ? 'var(--on-high)' : 'var(--on-low)';
        number.style.fontSize = '10.5px';
        root.append(number);
      }
      return rect;
    }));
    const every = (size, least) => Math.max(1, Math.ceil(least / size));
    spec.rows.forEach((name, i) => { if (i % every(tall, 12) === 0) root.append(svg('text', { x: lead - 5, y: TOP + (i + 0.5) * tall + 4, 'text-anchor': 'end' }, clip(String(name), 16))); });
    const widest = 8 + 6.4 * Math.max(...spec.columns.map((name) => String(name).length));
    spec.columns.forEach((name, j) => { if (j % every(side, widest) === 0) root.append(svg('text', { x: lead + (j + 0.5) * side, y: base + 14, 'text-anchor': 'middle' }, String(name))); });
    root.append(svg('text', { class: 'title', x: 2, y: 12 }, spec.ylabel), svg('text', { class: 'title', x: lead + (side * count) / 2, y: base + 33, 'text-anchor': 'middle' }, spec.xlabel));
    const read = (i, j) => {
      root.querySelectorAll('.at').forEach((node) => node.classList.remove('at'));
      at = [i, j];
      if (!dots[i] || !dots[i][j]) { hideTip(); return; }
      dots[i][j].classList.add('at');
      const place = dots[i][j].getBoundingClientRect();
      showTip(place.right, place.bottom, [el('b', {}, `${spec.ylabel} ${spec.rows[i]}, ${spec.xlabel} ${spec.columns[j]}`), ...spec.tell(i, j).map((line) => el('div', {}, line))]);
    };
    root.addEventListener('pointermove', (event) => {
      const place = root.getBoundingClientRect(), factor = width / place.width;
      read(Math.floor(((event.clientY - place.top) * factor - TOP) / tall), Math.floor(((event.clientX - place.left) * factor - lead) / side));
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
