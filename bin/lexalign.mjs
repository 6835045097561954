#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

if (Number(process.versions.node.split('.')[0]) < 20) {
  console.error(`lexalign needs Node.js 20 or newer; this is ${process.versions.node}.`);
  process.exit(1);
}

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const setup = join(root, 'scripts', 'setup.mjs');

// In a checkout, packages and build are made up to date first; a command restarted by itself has done so.
if (existsSync(setup) && process.env.LEXALIGN_RELAUNCHED_BY !== String(process.ppid)) {
  const { orFail, prepare } = await import(pathToFileURL(setup).href);
  await orFail(prepare);
}

const load = (name) => import(pathToFileURL(join(root, 'dist', 'src', 'cli', `${name}.js`)).href);
const { endWithParent } = await load('software-driver');
endWithParent();
const { main } = await load('main');
const code = await main(process.argv.slice(2));
// exit() drops what the reader of a pipe has not taken yet.
for (const stream of [process.stdout, process.stderr])
  if (stream.writableLength > 0) await new Promise((written) => stream.write('', written));
process.exit(code);
