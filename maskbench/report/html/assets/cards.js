// A plot with its title, its values as a table, and the runs each series came from.
const KINDS = { lines, rows };

function card(spec, heading) {
  const groups = [...new Set(spec.series.map((one) => one.group))];
  const only = groups.length === 1 && groups[0] !== undefined && !spec.ordered ? [' ', el('small', {}, groupOf(groups[0]).label)] : [];
  const box = el('article', { class: 'card' }, el('h4', {}, heading || spec.title, only));
  const body = el('div', {});
  box.append(body);
  body.style.minHeight = '340px';
  whenSeen(box, () => {
    body.style.minHeight = '';
    body.append(...KINDS[spec.kind](spec).filter(Boolean), ...(spec.note ? [el('p', { class: 'note' }, spec.note)] : []), values(spec));
  });
  return box;
}

function values(spec) {
  const details = el('details', {}, el('summary', {}, 'Values and where they come from'));
  details.addEventListener('toggle', () => {
    if (!details.open || details.children.length > 1) return;
    const names = xText(spec) || show;
    const lines = spec.series.flatMap((one) => one.x.map((x, k) => [
      one.group === undefined ? one.name : groupButton(one.group, labelOf(one, spec.series)),
      spec.kind === 'rows' ? (spec.rows ? spec.rows[x] : '') : names(x),
      reading(one, k),
      one.n ? String(one.n[k]) : '',
      one.group === undefined ? '' : groupOf(one.group).runs.map((run) => DATA.runs[run].seed).join(' '),
    ]));
    details.append(grid(['series', spec.kind === 'rows' ? 'row' : spec.xlabel, spec.kind === 'rows' ? spec.xlabel : spec.ylabel, 'n', 'seeds'], lines.slice(0, 600), 'Values'));
    if (lines.length > 600) details.append(el('p', { class: 'note' }, `and ${lines.length - 600} more; maskbench results --csv has all.`));
    details.append(el('p', { class: 'note' }, spec.series.some((one) => one.lo) ? 'Bands: least to largest seed.' : 'Bands and ±: 95 % interval over seeds (Student’s t).'));
  });
  return details;
}

const groupButton = (index, label) => el('button', { type: 'button', class: 'open', onclick: () => openGroup(index) }, label || groupOf(index).label);
const runButton = (index) => el('button', { type: 'button', class: 'open', onclick: () => openRun(index) }, DATA.runs[index].dir);

function grid(head, lines, name) {
  const numeric = head.map((_, i) => lines.some((line) => typeof line[i] === 'number') && lines.every((line) => typeof line[i] === 'number' || line[i] === null));
  const cell = (value) => (value instanceof Node ? el('td', {}, value) : el('td', { class: typeof value === 'number' || value === null ? 'num' : '' }, typeof value === 'string' ? value : show(value)));
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': name }, el('table', { class: 'plain' },
    el('thead', {}, el('tr', {}, head.map((word, i) => el('th', { scope: 'col', class: numeric[i] ? 'num' : null }, word)))),
    el('tbody', {}, lines.map((line) => el('tr', {}, line.map(cell))))));
}

function pairs(facts, name) {
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': name }, el('table', { class: 'kv' }, el('tbody', {},
    facts.filter(([, value]) => value !== null && value !== undefined && value !== '').map(([key, value]) => el('tr', {}, el('th', { scope: 'row' }, key), el('td', {}, value instanceof Node ? value : show(value)))))));
}

// ---- curves and matrices of a group

const leftOut = (shown, all, what) => (shown < all ? `${shown} of ${all} ${what} shown, evenly spread.` : null);
function thinned(lines) {
  const longest = lines.reduce((a, b) => (b.of > a.of ? b : a));
  return leftOut(longest.x.length, longest.of, 'points of the longest curve');
}

function curveCards(index) {
  const found = groupOf(index).curves;
  const drawn = Object.keys(found).filter((name) => found[name].lines.length), others = Object.keys(found).filter((name) => !drawn.includes(name));
  const cards = drawn.map((name) => card({ kind: 'lines', title: `${name}, ${groupOf(index).label}`, xlabel: 'training step (count)', ylabel: axisName(name), ordered: true,
    note: [leftOut(found[name].lines.length, found[name].of, 'parts of the run'), thinned(found[name].lines)].filter(Boolean).join(' '), series: found[name].lines.map((one) => ({ ...one, name: one.part, group: index })) }));
  return others.length ? [...cards, el('p', { class: 'note' }, `Not drawn, in metrics.csv only: ${others.join(', ')}.`)] : cards;
}

const MATRICES = { accuracy: ['tested on stage', 'after learning stage'], stages_inferred: ['inferred stage', 'true stage'], recall_distance: ['other stage', 'true stage'], recall_distance_curve: ['step of recall', 'true stage'] };
const OVER_TIME = new Set(['accuracy']);  // whose rows follow each other in time

// A matrix that a slider, or the button beside it, builds up row by row, with the numbers of its last row.
function stepped(found, draw, what) {
  const last = found.rows.length - 1, place = el('div', {}), told = el('output', {});
  const slider = el('input', { type: 'range', min: 0, max: last, value: last, 'aria-label': `${what}, of ${found.of[0]}`, oninput: () => { stop(); step(); } });
  const button = el('button', { type: 'button', onclick: () => (timer ? stop() : play()) }, 'Play');
  let timer = null;
  const step = () => {
    const row = Number(slider.value), seen = found.cells[row].filter((value, j) => finite(value) && found.columns[j] <= found.rows[row]);
    told.textContent = `${what} ${found.rows[row] + 1}` + (seen.length ? `: mean of the ${seen.length} seen ${show(seen.reduce((a, b) => a + b, 0) / seen.length)}` : '');
    slider.setAttribute('aria-valuetext', told.textContent);
    place.replaceChildren(...draw(row));
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = 'Play'; };
  const play = () => {
    if (Number(slider.value) === last) slider.value = 0; else slider.stepUp();
    step();
    button.textContent = 'Pause';
    timer = setInterval(() => {
      if (!box.isConnected || Number(slider.value) === last) { stop(); return; }
      slider.stepUp();
      step();
    }, 700);
  };
  const box = el('div', { class: 'step' }, button, slider, told);
  step();
  return [box, place];
}

function matrixCards(index) {
  const label = groupOf(index).label;
  return groupOf(index).matrices.map((found) => {
    const [x, y] = MATRICES[found.name] || ['column', 'row'];
    const title = `${found.name}, ${label}${found.n > 1 ? `, mean of ${found.n} seeds` : ''}`;
    const notes = [leftOut(found.rows.length, found.of[0], 'rows'), leftOut(found.columns.length, found.of[1], 'columns')].filter(Boolean);
    const box = el('article', { class: 'card' }, el('h4', {}, title), notes.map((note) => el('p', { class: 'note' }, note)));
    const known = found.cells.flat().filter(finite);
    const fractions = known.every((v) => v >= 0 && v <= 1);
    const draw = (upto) => heat({ title, cells: upto === undefined ? found.cells : found.cells.map((row, i) => (i <= upto ? row : row.map(() => null))), rows: found.rows.map((i) => i + 1), columns: found.columns.map((i) => i + 1), xlabel: x, ylabel: y,
      low: Math.min(...known) >= 0 && !fractions ? 0 : Math.min(...known), high: Math.max(...known),
      text: (v) => (fractions ? v.toFixed(3) : String(Number(v.toPrecision(4)))), what: axisName(found.name), tell: (i, j) => [show(found.cells[i][j])] });
    whenSeen(box, () => box.append(...(OVER_TIME.has(found.name) ? stepped(found, draw, y) : draw())));
    return box;
  });
}
