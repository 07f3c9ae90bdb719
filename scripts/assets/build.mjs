// Bundles the libraries of the HTML report into maskbench/report/html/assets/vendor; `--check` writes nothing and compares.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, '../../maskbench/report/html/assets/vendor');
const BUNDLES = { Plot: 'plot.js', Table: 'table.js' };  // global name -> file, here its entry and there its bundle
const LICENCE = /^licen[cs]e(\.(md|txt))?$/i;
const lock = JSON.parse(readFileSync(join(here, 'package-lock.json'), 'utf8')).packages;
const sha256 = (text) => createHash('sha256').update(text).digest('hex');
const inside = (path) => /^(.*node_modules\/((?:@[^/]+\/)?[^/]+))\//.exec(path);

const files = {}, bundles = [], packages = new Map();
for (const [name, file] of Object.entries(BUNDLES)) {
  const { outputFiles, metafile } = await build({
    absWorkingDir: here, entryPoints: [file], bundle: true, minify: true, format: 'iife', globalName: name, target: 'es2020', charset: 'ascii',
    legalComments: 'none', write: false, metafile: true, outfile: file, define: { 'process.env.NODE_ENV': '"production"' }, logLevel: 'warning',
  });
  files[file] = outputFiles[0].text;
  const used = Object.entries(Object.values(metafile.outputs)[0].inputs).filter(([, input]) => input.bytesInOutput);
  const folders = [...new Set(used.map(([path]) => inside(path)?.[1]).filter(Boolean))].sort();
  for (const folder of folders) packages.set(folder, { ...described(folder), bundles: [...(packages.get(folder)?.bundles ?? []), file] });
  bundles.push({ file, global: name, bytes: Buffer.byteLength(files[file]), sha256: sha256(files[file]) });
}

function described(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(here, folder, 'package.json'), 'utf8'));
  const { integrity } = lock[folder];
  return { name, version, license, tarball: `${name}/-/${name.split('/').pop()}-${version}.tgz`, integrity };
}

// Equal licences stand once, under the names of all packages that have them.
const holders = new Map();
for (const [folder, { name, version }] of packages) {
  const own = readdirSync(join(here, folder)).find((file) => LICENCE.test(file));
  if (!own) throw new Error(`${name} ${version} has no licence file`);
  const text = readFileSync(join(here, folder, own), 'utf8').replace(/\r/g, '').replace(/[ \t]+$/gm, '').trim();
  holders.set(text, [...(holders.get(text) ?? []), `${name} ${version}`]);
}
files['LICENSES.txt'] = [...holders].map(([text, names]) => `${names.join(', ')}\n\n${text}\n`).join(`\n${'-'.repeat(40)}\n\n`);
const manifest = { esbuild: lock['node_modules/esbuild'].version, bundles, licences: { file: 'LICENSES.txt', sha256: sha256(files['LICENSES.txt']) }, packages: [...packages.values()] };
files['manifest.json'] = `${JSON.stringify(manifest, null, 1)}\n`;

if (process.argv.includes('--check')) {
  const differ = Object.entries(files).filter(([file, text]) => readFileSync(join(target, file), 'utf8') !== text).map(([file]) => file);
  if (differ.length) {
    console.error(`${differ.join(', ')} in ${target} are not what the pinned packages give: run make assets.`);
    process.exit(1);
  }
  console.log('the vendored files are what the pinned packages give');
} else {
  mkdirSync(target, { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(target, file), text);
  for (const { file, bytes, sha256: sum } of bundles) console.log(`${file} ${bytes} bytes ${sum}`);
}
