// The sections of the page.
const body = (id) => document.querySelector(`#${id} .body`);
const absent = (id) => { byId(id).hidden = true; document.querySelector(`nav a[href="#${id}"]`).hidden = true; };

function plotsSection() {
  if (!DATA.boards.some((board) => board.plots.length)) { absent('plots'); return; }
  DATA.boards.forEach((board, index) => {
    if (!board.plots.length) return;
    const box = el('div', {}, el('h3', {}, `${board.task} on ${board.data} `, el('small', {}, `data from ${board.source}`)), el('div', { class: 'board' }, board.plots.map((plot) => card(plot))));
    body('plots').append(box);
    onFilter(() => { box.hidden = ![...passing.groups].some((i) => groupOf(i).board === index); });
  });
}

// A list of groups or runs, each under its board, that shows what `draw` makes of the chosen one.
function picker(id, label, entries, draw, more) {
  if (!entries.length) { absent(id); return; }
  const list = el('select', { onchange: () => change() });
  const boards = new Map();
  for (const [value, text, board] of entries) {
    if (!boards.has(board)) boards.set(board, el('optgroup', { label: board }));
    boards.get(board).append(el('option', { value }, text));
  }
  list.append(...boards.values());
  const place = el('div', { class: 'pair' });
  const controls = el('div', { class: 'controls' }, el('label', {}, label, list));
  const change = () => { place.replaceChildren(...draw(Number(list.value))); if (more) more(Number(list.value)); };
  body(id).append(controls, place);
  whenSeen(place, change);
  place.style.minHeight = '120px';
}

const boardName = (index) => { const board = DATA.boards[index]; return `${board.task} on ${board.data} (${board.source})`; };
const groupEntries = (has) => DATA.groups.map((group, i) => [i, `${group.label} (n=${group.runs.length})`, boardName(group.board), group]).filter(([, , , group]) => has(group));

function anyTwo() {
  const numbers = DATA.runs.map(numbersOf);
  const names = [...new Set(numbers.flatMap((one) => [...one].filter(([, value]) => finite(value)).map(([name]) => name)))];
  const varied = names.filter((name) => new Set(numbers.map((one) => one.get(name))).size > 1);
  if (varied.length < 2) { absent('any-two'); return; }
  const goal = DATA.runs.map((run) => run.objective && run.objective[0]).find(Boolean);
  const prefer = (wanted, other) => wanted.find((name) => varied.includes(name)) || varied.find((name) => name !== other);
  const start = { y: prefer([goal, 'accuracy', 'average_accuracy']) };
  // of what varies, the first that most runs have beside y
  const beside = (name) => numbers.filter((one) => finite(one.get(start.y)) && finite(one.get(name))).length;
  const others = [...new Set(['memory_bytes', 'ece', 'density', 'wall_seconds', ...varied])].filter((name) => name !== start.y && varied.includes(name));
  start.x = others.reduce((best, name) => (beside(name) > beside(best) ? name : best), others[0]);
  const place = el('article', { class: 'card' });
  const list = (axis) => el('select', { 'data-axis': axis, onchange: draw }, [['numbers', varied.filter((name) => !/[./]/.test(name))], ['config', varied.filter((name) => name.includes('.') && !name.includes('/'))], ['families', varied.filter((name) => name.includes('/'))]]
    .filter(([, own]) => own.length).map(([title, own]) => el('optgroup', { label: title }, own.map((name) => el('option', { value: name, selected: name === start[axis] }, name)))));
  const lists = { x: list('x'), y: list('y') };
  const colour = el('select', { onchange: draw }, ['method', 'data', 'task', 'source'].map((name) => el('option', { value: name }, name)));
  body('any-two').append(el('div', { class: 'controls' }, el('label', {}, 'x', lists.x), el('label', {}, 'y', lists.y), el('label', {}, 'colour', colour)), place);
  function draw() {
    const [x, y] = [lists.x.value, lists.y.value];
    const found = DATA.runs.map((run, i) => ({ run: i, x: numbers[i].get(x), y: numbers[i].get(y), kind: String(run[colour.value]) })).filter((point) => finite(point.x) && finite(point.y));
    const title = `${y} against ${x}, ${found.length} runs`;
    place.replaceChildren(el('h4', {}, title), ...points({ title, xlabel: axisName(x), ylabel: axisName(y), points: found }).filter(Boolean));
  }
  place.style.minHeight = '420px';
  whenSeen(place, draw);
}

function fromMark() {
  const found = /^#(group|run)-(\d+)$/.exec(location.hash);
  if (!found) return;
  const index = Number(found[2]);
  if (found[1] === 'group' && DATA.groups[index]) openGroup(index);
  if (found[1] === 'run' && DATA.runs[index]) openRun(index);
}

for (const table of document.querySelectorAll('table.sortable')) sortable(table);
filters();
for (const table of document.querySelectorAll('table.sortable')) filled(table);
columns(byId('all-runs'));
plotsSection();
anyTwo();
compareSection();
picker('training', 'group', groupEntries((group) => Object.values(group.curves).some((one) => one.lines.length)), curveCards);
overlaidSection();
picker('matrices', 'group', groupEntries((group) => group.matrices.length), matrixCards);
picker('masks', 'run', DATA.runs.map((run, i) => [i, run.dir, `${run.task} on ${run.data}`, run]).filter(([, , , run]) => run.masks), maskCards);
fromMark();
window.addEventListener('hashchange', fromMark);
document.documentElement.dataset.ready = 'yes';
