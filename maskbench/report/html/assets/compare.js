// Any two groups side by side, seed by seed: what `maskbench compare` says, for every metric that both have.

// P(|T| >= t) of Student's t with `freedom` degrees: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
function studentP(t, freedom) {
  const angle = Math.atan(Math.abs(t) / Math.sqrt(freedom)), sine = Math.sin(angle), square = Math.cos(angle) ** 2, odd = freedom % 2;
  let term = odd ? Math.cos(angle) : 1, sum = freedom > 1 ? term : 0;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) { term *= (square * (k - 1)) / k; sum += term; }
  return 1 - (odd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum);
}

// So many standard errors lie to each side of a mean in its 95 % interval.
function student95(freedom) {
  let low = 0, high = 1000;
  while (high - low > 1e-9) { const middle = (low + high) / 2; if (studentP(middle, freedom) > 0.05) low = middle; else high = middle; }
  return low;
}

// P of at least so uneven a split of n signs, each as likely as the other.
function signP(wins, n) {
  if (!n) return null;
  let term = 0.5 ** n, sum = 0;
  for (let k = 0; k <= Math.min(wins, n - wins); k++) { sum += term; term *= (n - k) / (k + 1); }
  return Math.min(1, 2 * sum);
}

// Pairs of numbers: mean difference, half of its 95 % interval, the two tests; what is undefined is null.
function paired(pairs, less) {
  const gaps = pairs.map(([a, b]) => a - b), n = gaps.length, mean = gaps.reduce((a, b) => a + b, 0) / n;
  const wins = gaps.filter((gap) => (less ? gap < 0 : gap > 0)).length, losses = gaps.filter((gap) => (less ? gap > 0 : gap < 0)).length;
  const error = n > 1 ? Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / (n - 1) / n) : null;
  const told = error > 1e-12 * Math.abs(mean);  // else all differences are the same, but for rounding
  return { mean, n, wins, losses, half: error === null ? null : told ? error * student95(n - 1) : 0, t: told ? studentP(mean / error, n - 1) : null, sign: signP(wins, wins + losses) };
}

const configOf = (group) => ({ ...DATA.shared[group.common], ...group.own });

function compareSection() {
  if (DATA.groups.length < 2) { absent('compare'); return; }
  const lists = ['A', 'B'].map((name, place) => {
    const list = el('select', { onchange: () => draw() });
    const boards = new Map();
    DATA.groups.forEach((group, i) => {
      const board = boardName(group.board);
      if (!boards.has(board)) boards.set(board, el('optgroup', { label: board }));
      boards.get(board).append(el('option', { value: i, selected: i === firstPair[place] }, `${group.label} (n=${group.runs.length})`));
    });
    list.append(...boards.values());
    return list;
  });
  const place = el('div', { 'aria-live': 'polite' });
  const turn = el('button', { type: 'button', onclick: () => { [lists[0].value, lists[1].value] = [lists[1].value, lists[0].value]; draw(); } }, 'Swap A and B');
  body('compare').append(el('div', { class: 'controls' }, el('label', {}, 'A', lists[0]), el('label', {}, 'B', lists[1]), turn), place);
  const draw = () => place.replaceChildren(...comparison(...lists.map((list) => Number(list.value))).filter(Boolean));
  whenSeen(place, draw);
}

// Two groups of one board to begin with, where there are.
const firstPair = (() => {
  const first = DATA.groups.findIndex((group, i) => DATA.groups.some((other, j) => j > i && other.board === group.board));
  return first < 0 ? [0, 1] : [first, DATA.groups.findIndex((other, j) => j > first && other.board === DATA.groups[first].board)];
})();

function comparison(a, b) {
  if (a === b) return [el('p', { class: 'note' }, 'A and B are the same group.')];
  const [first, second] = [groupOf(a), groupOf(b)];
  const bySeed = [first, second].map((group) => new Map(group.runs.map((i) => [DATA.runs[i].seed, metricsOf(DATA.runs[i])])));
  const seeds = [...bySeed[0].keys()].filter((seed) => bySeed[1].has(seed));
  const names = [...metricsOf(first).keys()].filter((name) => metricsOf(second).has(name));
  const lines = names.map((name) => {
    const pairs = seeds.map((seed) => bySeed.map((one) => one.get(seed).get(name))).filter((pair) => pair.every(finite));
    if (!pairs.length) return null;
    const less = DATA.lower.includes(name), found = paired(pairs, less);
    const mean = (place) => pairs.reduce((sum, pair) => sum + pair[place], 0) / pairs.length;
    return [less ? `${name} (lower is better)` : name, mean(0), mean(1), withInterval(found.mean, found.half), found.t, found.sign, `${found.wins} of ${found.n}`, found.n];
  }).filter(Boolean);
  const configs = [first, second].map(configOf);
  const differ = [...new Set(configs.flatMap(Object.keys))].filter((key) => configs[0][key] !== configs[1][key]).sort();
  const mixed = [
    first.board !== second.board && 'task, data or the source of the data differ: one seed is not one draw of both',
    first.budget !== second.budget && `training budgets differ (${first.budget}; ${second.budget})`,
    DATA.runs[first.runs[0]].code.join() !== DATA.runs[second.runs[0]].code.join() && 'versions of the code differ',
  ].filter(Boolean);
  return [
    el('p', { class: 'note' }, groupButton(a, `A: ${first.label}`), ' and ', groupButton(b, `B: ${second.label}`), seeds.length ? `, paired over the seeds both have: ${seeds.join(', ')}.` : ': no seed is in both, so nothing can be paired.'),
    mixed.length ? el('p', { class: 'warn' }, `Beware: ${mixed.join('; ')}.`) : null,
    lines.length ? grid(['metric', 'A', 'B', 'A − B ± 95 %', 'paired t, p', 'sign test, p', 'A better', 'pairs'], lines, 'A and B by metric') : null,
    lines.length ? el('p', { class: 'note' }, 'Both tests are two-sided and not corrected for the number of metrics; of n pairs the sign test reaches no less than 2 / 2ⁿ.') : null,
    differ.length ? folded(`Config: ${differ.length} keys differ`, () => grid(['key', 'A', 'B'], differ.map((key) => [key, ...configs.map((one) => String(one[key] ?? DASH))]), 'Config of A and B')) : null,
  ];
}
