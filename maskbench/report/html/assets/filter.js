// The filter: words that a run holds, and KEY=VALUE of any key of its config, its metrics and what is known of it.
const FACTS = ['method', 'data', 'task', 'source', 'seed', 'key', 'status', 'preset', 'freshness'];

function haystack(run) {
  const group = run.group === undefined ? null : groupOf(run.group);
  const own = group ? Object.entries(group.own).map(([key, value]) => `${key}=${value} ${key.split('.').pop()}=${value}`) : [];
  const facts = FACTS.map((name) => `${name}=${run[name] ?? ''}`);
  return [run.dir, ...facts, ...own, group ? group.label : '', run.code.join(' '), run.command].join('\n').toLowerCase();
}

// Everything of a run that has a name: facts, config (as it is shown), metrics and cost.
const known = [];
function valuesOf(place) {
  if (known[place]) return known[place];
  const run = DATA.runs[place], made = new Map(numbersOf(run));
  if (run.group !== undefined) for (const [key, value] of Object.entries(configOf(groupOf(run.group)))) made.set(key, value);
  for (const name of FACTS) if (run[name] !== undefined) made.set(name, run[name]);
  if (run.objective) made.set('objective', run.objective[1]);
  made.set('code', run.code.join(', '));
  known[place] = made;
  return made;
}

let named = null;  // lower-case name or last words of one -> the keys it stands for
function keysOf(name) {
  if (!named) {
    named = new Map();
    for (const key of new Set(DATA.runs.flatMap((_, i) => [...valuesOf(i).keys()]))) {
      const words = key.toLowerCase().split('.');
      for (let from = 0; from < words.length; from++) {
        const short = words.slice(from).join('.');
        named.set(short, [...(named.get(short) || []), key]);
      }
    }
  }
  return named.get(name) || [];
}

const SIGNS = { '=': (a, b) => a === b, '!=': (a, b) => a !== b, '<': (a, b) => a < b, '>': (a, b) => a > b, '<=': (a, b) => a <= b, '>=': (a, b) => a >= b };

// Whether a value fits `sign wanted`: as numbers where both are, else as words of either case.
function fits(value, sign, wanted) {
  if (value === undefined || value === null) return false;
  const numbers = [value, wanted].map((one) => (typeof one === 'string' && !one.trim() ? NaN : Number(one)));
  if (numbers.every((one) => !Number.isNaN(one))) return SIGNS[sign](...numbers);
  return sign.length === 1 && sign !== '=' ? false : SIGNS[sign](String(value).toLowerCase(), wanted);
}

// What a word asks of a run, by its place. `key=a,b` is either; `!=` none of them; where a name stands for several keys, one
// that fits is enough. A word of no known key is looked for as it is.
function question(word, texts) {
  const [, name, sign, rest] = /^([^=<>!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(word) || [];
  const keys = name ? keysOf(name) : [];
  if (!keys.length) return (place) => texts[place].includes(word);
  const wanted = rest.split(',');
  return (place) => keys.some((key) => {
    const value = valuesOf(place).get(key);
    if (sign === '!=') return [rest, ...wanted].every((one) => fits(value, sign, one));
    return [rest, ...wanted].some((one) => fits(value, sign, one));  // the whole too: a list is spelled with commas
  });
}

function filters() {
  const texts = DATA.runs.map(haystack);
  const picks = ['task', 'method', 'data', 'source', 'freshness'].map((name) => {
    const found = [...new Set(DATA.runs.map((run) => run[name]))].filter(Boolean).sort();
    if (found.length < 2) return null;
    const label = choice(name, [['', 'all'], ...found.map((value) => [value, value])], '', apply);
    byId('choices').append(label);
    return [name, label.querySelector('select')];
  }).filter(Boolean);
  anyKey(apply);
  byId('words').addEventListener('input', apply);
  byId('filter').addEventListener('submit', (event) => event.preventDefault());

  function apply() {
    const asked = byId('words').value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => question(word, texts));
    passing.runs = new Set();
    passing.groups = new Set();
    DATA.runs.forEach((run, i) => {
      if (!picks.every(([name, list]) => !list.value || run[name] === list.value)) return;
      if (!asked.every((fit) => fit(i))) return;
      passing.runs.add(i);
      if (run.group !== undefined) passing.groups.add(run.group);
    });
    for (const row of document.querySelectorAll('tr[data-run]')) row.hidden = !passing.runs.has(Number(row.dataset.run));
    for (const row of document.querySelectorAll('tr[data-group]')) row.hidden = !passing.groups.has(Number(row.dataset.group));
    for (const table of document.querySelectorAll('table.sortable')) table.parentNode.hidden = !unmade(table) && ![...table.tBodies[0].rows].some((row) => !row.hidden);
    count();
    tellFilter();
  }
  function count() {
    byId('count').textContent = passing.runs.size === DATA.runs.length ? `${DATA.runs.length} runs` : `${passing.runs.size} of ${DATA.runs.length} runs`;
  }
  count();
}

// Two lists, a key and one of its values, which become a word of the filter. They are filled when they are first used.
const MOST = 200;  // values that a list offers
function anyKey(apply) {
  const keys = el('select', { id: 'any-key', onchange: () => offer(keys.value) }, el('option', { value: '' }, 'any key'));
  const values = el('select', { id: 'any-value', 'aria-label': 'value', disabled: true, onchange: () => take() }, el('option', { value: '' }, 'value'));
  byId('choices').append(el('label', {}, 'key', keys), values);
  let distinct = null;
  const fillKeys = () => {
    if (distinct) return;
    distinct = new Map();
    DATA.runs.forEach((_, i) => { for (const [key, value] of valuesOf(i)) { if (!distinct.has(key)) distinct.set(key, new Set()); distinct.get(key).add(value); } });
    const telling = [...distinct].filter(([, found]) => found.size > 1).map(([key]) => key).sort(collator.compare);
    keys.append(...telling.map((key) => el('option', { value: key }, key)));
  };
  for (const event of ['focus', 'pointerdown']) keys.addEventListener(event, fillKeys);
  const offer = (key) => {
    const found = [...(distinct.get(key) || [])].filter((value) => value !== null && !/\s/.test(String(value))).sort((a, b) => collator.compare(String(a), String(b)));
    values.replaceChildren(el('option', { value: '' }, found.length > MOST ? `${MOST} of ${found.length} values` : 'value'), ...found.slice(0, MOST).map((value) => el('option', { value }, String(value))));
    values.disabled = !found.length;
  };
  const take = () => {
    if (!values.value) return;
    const others = byId('words').value.split(/\s+/).filter((word) => word && !word.startsWith(`${keys.value}=`));
    byId('words').value = [...others, `${keys.value}=${values.value}`].join(' ');
    apply();
  };
}
