// Training curves of several groups in one plot: a metric and a part of the run, a line for each group that passes the filter.
function overlaidSection() {
  const found = new Map();  // board, metric and part -> its lines
  DATA.groups.forEach((group, i) => {
    for (const [metric, told] of Object.entries(group.curves)) {
      for (const one of told.lines) {
        const key = JSON.stringify([group.board, metric, one.part]);
        if (!found.has(key)) found.set(key, { board: group.board, metric, part: one.part, series: [] });
        found.get(key).series.push({ ...one, group: i, name: '' });
      }
    }
  });
  const several = [...found.values()].filter((one) => one.series.length > 1);
  if (!several.length) return;
  const list = el('select', { id: 'overlaid', onchange: () => draw() });
  for (const board of new Set(several.map((one) => one.board))) {
    const own = several.map((one, i) => [one, i]).filter(([one]) => one.board === board);
    list.append(el('optgroup', { label: boardName(board) }, own.map(([one, i]) => el('option', { value: i }, `${one.metric}, ${one.part} (${one.series.length} groups)`))));
  }
  const place = el('div', {});
  const draw = () => {
    const { board, metric, part, series } = several[Number(list.value)];
    place.replaceChildren(card({ kind: 'lines', title: `${metric} of all groups, ${part}`, xlabel: 'training step (count)', ylabel: axisName(metric), note: thinned(series), series }, `${metric} of all groups, ${part}, ${boardName(board)}`));
  };
  body('training').append(el('h3', {}, 'Groups overlaid'), el('div', { class: 'controls' }, el('label', {}, 'curve', list)), place);
  place.style.minHeight = '340px';
  whenSeen(place, draw);
}
