// Tables that are too long to be written out: their rows are made from the data when they come into sight.
const cell = (value, text) => el('td', { class: 'num', 'data-v': value ?? null }, text ?? (value === undefined ? '' : show(value)));
const opener = (kind, index, label) => el('th', { scope: 'row', 'data-v': label }, el('button', { type: 'button', class: 'open', [`data-${kind}`]: index }, label));

function runCell(run, numbers, name) {
  if (name === 'status') return el('td', {}, el('span', { class: `status ${run.status}` }, run.status));
  if (name === 'code') return el('td', {}, el('code', {}, run.code.join(', ')), run.freshness ? ` ${run.freshness}` : '');
  if (name === 'key') return el('td', {}, el('code', {}, run.key ?? ''));
  if (name === 'seed') return cell(run.seed ?? null);
  if (name === 'objective') return cell(run.objective ? run.objective[1] ?? null : null);
  if (name === 'wall_seconds') return cell(run.cost && finite(run.cost[0]) ? Math.round(10 * run.cost[0]) / 10 : null);
  return ['method', 'data', 'task', 'source'].includes(name) ? el('td', {}, run[name] ?? '') : cell(numbers.get(name));
}

// What is said of runs that are not all fresh.
function aged(runs) {
  const found = [...new Set(runs.map((run) => run.freshness).filter(Boolean))];
  return found.some((word) => word !== 'fresh') ? ` ${found.sort().join(', ')}` : '';
}

function groupCell(group, means, name) {
  const board = DATA.boards[group.board], runs = group.runs.map((i) => DATA.runs[i]);
  if (name === 'data') return el('td', { 'data-v': board.data }, `${board.data} `, el('small', {}, board.source));
  if (name === 'n') return cell(group.runs.length);
  if (name === 'budget') return el('td', {}, group.budget);
  if (name === 'code') return el('td', {}, el('code', {}, runs[0].code.join(', ')), aged(runs));
  if (!means.has(name)) return cell();
  const mean = means.get(name);
  if (!mean) return cell(null);
  const fewer = mean[2] < runs.length ? [' ', el('small', {}, `n=${mean[2]}`)] : [];
  return el('td', { class: 'num', 'data-v': mean[0] }, withInterval(mean[0], mean[1]), fewer);
}

function rowsOf(table, heads) {
  if (table.dataset.rows === 'run') {
    return DATA.runs.map((run, i) => {
      const numbers = metricsOf(run);
      return el('tr', { 'data-run': i, hidden: !passing.runs.has(i) }, opener('run', i, run.dir), heads.slice(1).map((name) => runCell(run, numbers, name)));
    });
  }
  const own = [...DATA.groups.keys()].filter((i) => DATA.boards[groupOf(i).board].task === table.dataset.task);
  return own.map((i) => {
    const group = groupOf(i), means = metricsOf(group);
    return el('tr', { 'data-group': i, hidden: !passing.groups.has(i) }, opener('group', i, group.label), heads.slice(1).map((name) => groupCell(group, means, name)));
  });
}

// Whether the rows of a table are still to be made.
const unmade = (table) => Boolean(table.dataset.rows) && !table.tBodies[0].rows.length;

function filled(table) {
  if (!table.dataset.rows) return;
  const heads = [...table.tHead.rows[0].cells].map((one) => one.textContent);
  const fill = () => { if (unmade(table)) table.tBodies[0].append(...rowsOf(table, heads)); };
  whenSeen(table, fill);
  byId('columns').addEventListener('toggle', () => { if (table.id === 'all-runs') fill(); });
}
