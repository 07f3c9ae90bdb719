// Sorting and columns by TanStack Table, further columns. The tables are the page's own HTML, read without scripts too: the library
// says in which order their rows stand, by up to three columns (with Shift).
const FEATURES = Table.tableFeatures({
  coreReactivityFeature: Table.storeReactivityBindings(), rowSortingFeature: Table.rowSortingFeature, sortedRowModel: Table.createSortedRowModel(),
});

function sortable(table) {
  const heads = () => [...table.tHead.rows[0].cells];
  const numeric = (head) => head.classList.contains('num');
  const ids = new WeakMap();  // columns come and go, and two may have one name
  let count = 0;
  const idOf = (head) => { if (!ids.has(head)) ids.set(head, `column ${count++}`); return ids.get(head); };
  const columns = () => heads().map((head, i) => ({
    id: idOf(head), sortUndefined: 'last', sortDescFirst: numeric(head), sortFn: inOrder,
    accessorFn: (row) => sortValue(row.cells[i], numeric(head)),
  }));
  let sorting = [];
  table.tHead.addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (!button) return;
    // made at each press: rows may have come since, and cells be others
    const model = Table.constructTable({ features: FEATURES, columns: columns(), data: [...table.tBodies[0].rows], initialState: { sorting }, enableSortingRemoval: false, enableMultiSort: true, maxMultiSortColCount: 3 });
    model.getColumn(idOf(button.parentNode)).toggleSorting(undefined, event.shiftKey);
    sorting = model.atoms.sorting.get();
    for (const head of heads()) {
      const place = sorting.findIndex((one) => one.id === idOf(head));
      head.setAttribute('aria-sort', place < 0 ? 'none' : sorting[place].desc ? 'descending' : 'ascending');
      if (place > 0) head.dataset.place = place + 1; else delete head.dataset.place;
    }
    table.tBodies[0].append(...model.getRowModel().rows.map((row) => row.original));
  });
}

function sortValue(cell, numeric) {
  const text = cell ? cell.dataset.v ?? cell.textContent.trim() : '';
  if (!numeric) return text || undefined;
  const value = Number(text);
  return text === '' || Number.isNaN(value) ? undefined : value;  // what is missing stays last
}

const collator = new Intl.Collator('en', { numeric: true });
function inOrder(one, other, id) {
  const [a, b] = [one.getValue(id), other.getValue(id)];
  return typeof a === 'number' ? a - b : collator.compare(a, b);
}

// ---- columns

function columns(table) {
  const have = new Set([...table.tHead.rows[0].cells].map((cell) => cell.textContent));
  const place = byId('columns').querySelector('div');
  const numbers = DATA.runs.map(numbersOf);
  const names = [...new Set(numbers.flatMap((one) => [...one.keys()]))].filter((name) => !have.has(name));
  byId('columns').hidden = !names.length;
  byId('columns').addEventListener('toggle', () => {
    if (place.children.length) return;
    place.append(...names.map((name) => {
      const box = el('input', { type: 'checkbox', onchange: () => (box.checked ? add(name) : remove(name)) });
      return el('label', {}, box, ` ${name}`);
    }));
  });
  function add(name) {
    table.tHead.rows[0].append(el('th', { scope: 'col', class: 'num', 'aria-sort': 'none', 'data-name': name }, el('button', { type: 'button' }, name)));
    for (const row of table.tBodies[0].rows) {
      const value = numbers[Number(row.dataset.run)].get(name);
      row.append(el('td', { class: 'num', 'data-name': name, 'data-v': value ?? null }, value === undefined ? '' : show(value)));
    }
  }
  const remove = (name) => table.querySelectorAll(`[data-name="${CSS.escape(name)}"]`).forEach((cell) => cell.remove());
}

const COST = ['wall_seconds', 'cpu_seconds', 'peak_memory_bytes'];
function numbersOf(run) {
  const made = metricsOf(run);
  COST.forEach((name, i) => { if (run.cost && run.cost[i] !== null) made.set(name, run.cost[i]); });
  for (const [name, value] of Object.entries(DATA.shared[run.knobs])) if (finite(value)) made.set(name, value);
  return made;
}
