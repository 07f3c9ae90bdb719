// What the masks of a run look like: density by layer and stage, overlap of stages, what the input pixels keep.
function maskCards(index) {
  const found = DATA.runs[index].masks;
  if (!found) return [];
  const { stages, layers, sizes, kept } = found;
  const all = sizes.reduce((a, b) => a + b, 0);
  const total = kept.map((row) => row.reduce((a, b) => a + (b || 0), 0) / row.reduce((a, b, i) => a + (b === null ? 0 : sizes[i]), 0));
  const names = stages.map((name) => (/^\d+$/.test(name) ? Number(name) : name));
  const made = [densityBars(found, total, all)];
  if (stages.length > 1) {
    const series = layers.map((name, i) => {
      const known = stages.map((_, s) => s).filter((s) => kept[s][i] !== null);
      return { name, x: known.map((s) => s + 1), y: known.map((s) => kept[s][i] / sizes[i]) };
    });
    const spec = { kind: 'lines', title: 'Density of each stage or level', xlabel: 'stage or level', ylabel: 'density (fraction of weights)', ticks: names.map(String), series: [{ name: 'all layers', x: stages.map((_, s) => s + 1), y: total }, ...series] };
    made.push(card(spec));
  }
  if (found.shown.length > 1 && found.both.length) made.push(overlap(found, names));
  if (found.input) {
    const title = `Input pixels: connections of ${found.input.layer} in the last mask`;
    const box = el('article', { class: 'card' }, el('h4', {}, title));
    whenSeen(box, () => box.append(...picture(found.input)));
    made.push(box);
  }
  if (found.units) {
    const box = el('article', { class: 'card' }, el('h4', {}, `Units of ${found.units.layer}: which input pixels each keeps, last mask`));
    whenSeen(box, () => box.append(unitPictures(found.units)));
    made.push(box);
  }
  return made;
}

// Each unit of the first layer as a picture of its inputs: a pixel is filled where the connection is kept.
function unitPictures({ layer, side, of, shown, kept, bits }) {
  const bytes = Uint8Array.from(atob(bits), (sign) => sign.charCodeAt(0)), each = Math.ceil(side * side / 8);
  return el('div', {}, el('div', { class: 'pictures' }, shown.map((unit, place) => {
    let path = '';
    for (let pixel = 0; pixel < side * side; pixel++) {
      if (bytes[place * each + (pixel >> 3)] >> (pixel & 7) & 1) path += `M${pixel % side},${Math.floor(pixel / side)}h1v1h-1z`;
    }
    const told = `unit ${unit}: ${kept[place]} of ${side * side} inputs, ${percent(100 * kept[place] / side ** 2)}`;
    return el('figure', {}, svg('svg', { class: 'unit', viewBox: `0 0 ${side} ${side}`, role: 'img', 'aria-label': `${layer}, ${told}` },
      svg('rect', { width: side, height: side }), svg('path', { d: path })), el('figcaption', {}, `${unit}: ${percent(100 * kept[place] / side ** 2)}`));
  })), el('p', { class: 'note' }, [leftOut(shown.length, of, 'units'), 'Below each: its number and the share of its inputs that it keeps.'].filter(Boolean).join(' ')));
}

function densityBars({ stages, layers, sizes, kept }, total, all) {
  const box = el('article', { class: 'card' }, el('h4', {}, 'Density by layer'));
  const place = el('div', {});
  const pick = choice('stage', stages.map((name, i) => [i, name]), stages.length - 1, (i) => draw(Number(i)));
  if (stages.length > 1) box.append(el('div', { class: 'controls' }, pick));
  box.append(place);
  function draw(stage) {
    const bars = [['all layers', total[stage], all], ...layers.map((name, i) => [name, kept[stage][i] === null ? null : kept[stage][i] / sizes[i], sizes[i]])].filter(([, share]) => share !== null);
    const { box: inner } = canvas('Density by layer', (width) => {
      return chart(`Density by layer, stage ${stages[stage]}: ${bars.map(([name, share]) => `${name} ${percent(100 * share)}`).join(', ')}`, {
        width, height: bars.length * ROW + 10, margin: 0, marginLeft: 4, marginRight: 60, x: { domain: [0, 1], axis: null }, y: { type: 'identity', axis: null },
        marks: [
          Plot.rect(bars, { x1: 0, x2: 1, y1: (_, i) => i * ROW + 16, y2: (_, i) => i * ROW + 24, fill: 'var(--soft)' }),
          Plot.rect(bars, { x1: 0, x2: (bar) => bar[1], y1: (_, i) => i * ROW + 16, y2: (_, i) => i * ROW + 24, fill: (_, i) => (i ? 'var(--c0)' : 'var(--c6)') }),
          Plot.text(bars, { frameAnchor: 'left', textAnchor: 'start', y: (_, i) => i * ROW + 8, text: ([name]) => clip(name, width / 8), className: 'name' }),
          Plot.text(bars, { frameAnchor: 'right', textAnchor: 'end', y: (_, i) => i * ROW + 8, text: ([, share, size]) => `${Math.round(share * size).toLocaleString('en')} of ${size.toLocaleString('en')}` }),
          Plot.text(bars, { frameAnchor: 'right', textAnchor: 'start', dx: 6, y: (_, i) => i * ROW + 20, text: ([, share]) => percent(100 * share), className: 'name' }),
        ],
      });
    });
    place.replaceChildren(inner);
  }
  whenSeen(box, () => draw(stages.length - 1));
  return box;
}

function overlap({ shown, both, compared, kept, sizes, layers }, names) {
  const ones = shown.map((s) => compared.reduce((sum, i) => sum + kept[s][i], 0));
  const weights = compared.reduce((sum, i) => sum + sizes[i], 0);
  const common = (i, j) => both[Math.max(i, j)][Math.min(i, j)];
  const iou = (i, j) => { const union = ones[i] + ones[j] - common(i, j); return union ? common(i, j) / union : null; };
  const inside = (i, j) => (ones[i] ? common(i, j) / ones[i] : null);
  const chance = (i, j) => { const meet = (ones[i] * ones[j]) / weights; return meet / (ones[i] + ones[j] - meet); };
  const readings = { 'intersection over union': iou, 'share of the row’s mask inside the column’s': inside };
  const box = el('article', { class: 'card' }, el('h4', {}, 'Overlap of stages'));
  const place = el('div', {});
  const draw = (what) => place.replaceChildren(...heat({
    title: `Overlap of stages, ${what}`, rows: shown.map((s) => names[s]), columns: shown.map((s) => names[s]), low: 0, high: 1, xlabel: 'stage', ylabel: 'stage', what,
    cells: shown.map((_, i) => shown.map((__, j) => readings[what](i, j))), text: (v) => v.toFixed(2),
    tell: (i, j) => [`intersection over union ${show(iou(i, j))}`, `${common(i, j).toLocaleString('en')} in common, of ${ones[i].toLocaleString('en')} and ${ones[j].toLocaleString('en')}`, `${show(chance(i, j))} if the masks were independent`],
  }));
  box.append(el('div', { class: 'controls' }, choice('reading', Object.keys(readings).map((name) => [name, name]), 'intersection over union', draw)), place);
  if (shown.length < names.length) box.append(el('p', { class: 'note' }, leftOut(shown.length, names.length, 'stages')));
  if (compared.length < layers.length) box.append(el('p', { class: 'note' }, `Over the layers all stages have: ${compared.map((i) => layers[i]).join(', ')}.`));
  whenSeen(box, () => draw('intersection over union'));
  return box;
}

function choice(label, options, value, act) {
  const list = el('select', { onchange: () => act(list.value) }, options.map(([key, text]) => el('option', { value: key, selected: key === value }, text)));
  return el('label', {}, label, list);
}
