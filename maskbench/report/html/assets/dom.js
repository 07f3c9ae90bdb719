// Elements, numbers, the filter's state and what is drawn only when it comes into sight. Text is never parsed as HTML.
const stored = document.getElementById('data');
const DATA = JSON.parse(stored.dataset.packing ? await unpacked(stored.textContent) : stored.textContent);

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
}
const SVG = 'http://www.w3.org/2000/svg';
const DASH = '–';

function fill(node, attributes, children = []) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);
const finite = (value) => typeof value === 'number' && Number.isFinite(value);

function show(value) {
  if (value === null || value === undefined) return DASH;
  if (typeof value !== 'number') return String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? value.toLocaleString('en') : value.toPrecision(3);
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e6 ? value.toFixed(size >= 1000 ? 1 : 4) : value.toPrecision(3);
}
const fixed = (value) => Math.abs(value) >= 1e-3 && Math.abs(value) < 1000;
const withInterval = (mean, half) => show(mean) + (finite(half) ? ` ±${half && fixed(mean) && half < 1e-3 ? half.toFixed(4) : show(half)}` : '');
const percent = (value) => `${value >= 1 ? value.toFixed(1).replace('.0', '') : value.toPrecision(2)} %`;
function bytes(value) {
  for (const unit of ['B', 'KB', 'MB', 'GB']) {
    if (value < 1024 || unit === 'GB') return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
}

const metricsOf = (entry) => new Map((entry.metrics || []).map(([place, value]) => [DATA.names[place], value]));
const groupOf = (index) => DATA.groups[index];
const axisName = (name) => DATA.labels[name] || name;

// ---- what passes the filter

const passing = { runs: new Set(DATA.runs.keys()), groups: new Set(DATA.groups.keys()) };
const listeners = [];
const onFilter = (act) => { listeners.push(act); };
const tellFilter = () => { for (const act of listeners) act(); };

// ---- drawn when seen

const waiting = new Map();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    const draw = waiting.get(entry.target);
    waiting.delete(entry.target);
    if (draw) draw();
  }
}, { rootMargin: '400px' });
function whenSeen(node, draw) { waiting.set(node, draw); watcher.observe(node); }

// For a printer, who takes the page as this event leaves it: nothing scrolls and no frame passes, so no observer reports.
function drawAll() {
  while (waiting.size) {  // what is drawn may hold more that waits
    for (const [node, draw] of [...waiting]) {
      waiting.delete(node);
      watcher.unobserve(node);
      if (node.isConnected) draw();  // else it was replaced unseen
    }
  }
  fitAll();
}
window.addEventListener('beforeprint', drawAll);

// ---- the tip beside the pointer

const tip = byId('tip');
function showTip(x, y, lines) {
  tip.replaceChildren(...lines);
  const host = document.querySelector('dialog[open]') || document.body;  // above an open dialog only what is inside it is seen
  if (tip.parentNode !== host) host.append(tip);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, y + box.height + 18 > innerHeight ? y - box.height - 10 : y + 14)}px`;
}
const hideTip = () => { tip.hidden = true; };
window.addEventListener('scroll', hideTip, { passive: true, capture: true });
