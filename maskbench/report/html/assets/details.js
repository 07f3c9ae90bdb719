// A group or a run in full: numbers, config, code, data, commands, masks.
const dialog = byId('details');

function openDialog(title, mark, ...parts) {
  byId('details-title').textContent = title;
  dialog.querySelector('.body').replaceChildren(...parts.flat().filter(Boolean));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, '', mark);
}
dialog.addEventListener('close', () => { hideTip(); document.body.append(tip); history.replaceState(null, '', '#'); });
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });

const heading = (text) => el('h3', {}, text);
const commandLine = (text) => el('div', { class: 'copied' }, el('code', { class: 'command' }, text), copyButton(text, 'Copy'));

// Puts a text on the clipboard and says so; where a page may not, it selects the text that stands beside the button.
function copyButton(text, word) {
  const button = el('button', { type: 'button', class: 'copy', 'aria-label': `${word}: ${text}`, onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      told.textContent = 'copied';
    } catch {
      getSelection().selectAllChildren(button.parentNode.querySelector('code'));
      told.textContent = 'selected';
    }
  } }, word);
  const told = el('span', { role: 'status' });
  return [button, told];
}

// Where a run lies: a link to its folder, seen from the page's, and its path as a command takes it.
function folderOf(run) {
  const path = `${DATA.root}/${run.dir}`, name = el('code', {}, path);
  const parts = DATA.folder && [...DATA.folder, ...run.dir.split('/')].map((part) => (part === '..' ? part : encodeURIComponent(part)));
  return el('div', { class: 'copied' }, parts ? el('a', { href: `./${parts.join('/')}/` }, name) : name, copyButton(path, 'Copy'));
}
const FRESHNESS = { fresh: 'fresh: the code that computed it is unchanged', stale: 'stale: code that computed it has changed since', mixed: 'mixed: several versions of the code computed it' };
const tally = (found) => [...new Set(found)].map((word) => `${found.filter((other) => other === word).length} ${word}`).join(', ');
const inPairs = (cards) => (cards.length ? el('div', { class: 'pair' }, cards) : null);

function openGroup(index) {
  const group = groupOf(index), runs = group.runs.map((i) => DATA.runs[i]), metrics = metricsOf(group), each = runs.map(metricsOf);
  const board = DATA.boards[group.board];
  const told = Object.entries(group.own);
  openDialog(group.label, `#group-${index}`,
    pairs([['task', board.task], ['data', `${board.data} (${board.source})`], ['key', runs[0].key], ['code', runs[0].code.join(', ')], ['fresh or stale', tally(runs.map((run) => run.freshness || 'not known'))], ['training budget', group.budget], ['seeds', runs.map((run) => run.seed).join(', ')]], 'Group'),
    heading('Runs'), grid(['run', 'seed', runs[0].objective[0] || 'objective', 'wall seconds', 'commit', 'uncommitted changes'],
      group.runs.map((i) => { const run = DATA.runs[i]; return [runButton(i), run.seed, run.objective[1] ?? null, run.cost ? run.cost[0] : null, (run.commit || '').slice(0, 10), run.dirty ? 'yes' : 'no']; }), 'Runs'),
    heading('Commands'), runs.map((run) => commandLine(run.command)),
    heading(group.rivals > 1 ? `Config: what differs from the other ${group.rivals - 1} of this method on this data` : 'Config'),
    told.length ? pairs(told, 'Differences') : el('p', { class: 'note' }, group.rivals > 1 ? 'Nothing: the groups differ in the code.' : 'The only group of this method on this data.'),
    folded('Config they share', () => pairs(Object.entries(DATA.shared[group.common]), 'Shared config')),
    heading('Metrics'), grid(['metric', 'mean ± 95 %', 'n', ...runs.map((run) => `seed ${run.seed}`)], [...metrics].map(([name, mean]) => [name, mean ? withInterval(mean[0], mean[1]) : DASH, mean ? mean[2] : 0, ...each.map((one) => one.get(name) ?? null)]), 'Metrics'),
    Object.keys(group.curves).length ? [heading('Training curves'), inPairs(curveCards(index))] : null,
    group.matrices.length ? [heading('Matrices'), inPairs(matrixCards(index))] : null,
    runs[0].masks ? [heading(`Masks, seed ${runs[0].seed}`), inPairs(maskCards(group.runs[0]))] : null);
}

function openRun(index) {
  const run = DATA.runs[index], group = run.group === undefined ? null : groupOf(run.group);
  const [machine, platform, python, version] = DATA.shared[run.machine];
  const files = Object.entries(DATA.shared[run.files]).map(([name, sum]) => el('div', {}, el('code', {}, `${sum} `), name));
  openDialog(run.dir, `#run-${index}`,
    (run.notes || []).map((note) => el('p', { class: 'note' }, note)),
    pairs([
      ['run directory', folderOf(run)], ['group', group ? groupButton(run.group) : null], ['status', run.status], ['preset', run.preset], ['seed', run.seed], ['key', run.key],
      [(run.objective && run.objective[0]) || 'objective', run.objective && run.objective[1]],
      ['commit', run.commit ? `${run.commit}${run.branch ? ` (${run.branch})` : ''}` : 'none recorded'],
      ['uncommitted changes', run.dirty ? 'yes: uncommitted.patch in the run directory' : run.dirty === false ? 'no' : null],
      ['code of all attempts', run.code.join(', ')], ['beside the code that is here now', run.freshness ? FRESHNESS[run.freshness] || run.freshness : 'not known'], ['attempts', run.attempts], ['started', run.started],
      ['wall, CPU seconds', run.cost ? `${show(run.cost[0])}, ${show(run.cost[1])}` : null], ['peak memory', run.cost && finite(run.cost[2]) ? bytes(run.cost[2]) : null],
      ['data source', run.source], ['files (MD5)', files.length ? el('div', {}, files) : 'none recorded'],
      ['machine', machine], ['platform', platform], ['Python', python], ['maskbench', version], ['versions', Object.entries(DATA.shared[run.versions]).map((pair) => pair.join(' ')).join(', ')],
    ], 'Origin'),
    heading('Do it again'), commandLine(run.command), commandLine(`python -m maskbench rerun ${DATA.root}/${run.dir}`),
    heading('Metrics'), grid(['metric', 'value'], [...metricsOf(run)], 'Metrics'),
    run.table ? [heading('Result'), grid(run.table[0], run.table[1], 'Result')] : null,
    group && Object.keys(group.own).length ? [heading('Config: what differs from the other groups of this method on this data'), pairs(Object.entries(group.own), 'Differences')] : null,
    run.masks ? [heading('Masks'), inPairs(maskCards(index))] : null);
}

function folded(title, make) {
  const box = el('details', {}, el('summary', {}, title));
  box.addEventListener('toggle', () => { if (box.open && box.children.length === 1) box.append(make()); });
  return box;
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button.open');
  if (!button) return;
  if (button.dataset.group) openGroup(Number(button.dataset.group));
  if (button.dataset.run) openRun(Number(button.dataset.run));
});
