import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * The layer table of docs/architecture.md: a row imports from itself and from rows above it. `bench` stands above
 * `src/cli`, because the bench command runs it.
 */
const layers = [
  'src/errors.ts',
  'src/random.ts',
  'src/paths.ts',
  'kernels',
  'src/gpu',
  'src/ops',
  'src/formats',
  'src/text',
  'src/batch',
  'models',
  'src/model',
  'src/train',
  'src/evaluate',
  'datasets',
  'bench',
  'src/cli',
];
/** Layers that are to run in a browser as they are: no Node module, no Node global, no native package. */
const portable = ['src/gpu', 'src/ops', 'src/batch', 'src/model', 'src/train'];

/** Row of a file, -1 when it is in none. */
const layerOf = (file: string) => layers.findIndex((layer) => file === layer || file.startsWith(`${layer}/`));

const isPortable = (file: string) => portable.some((layer) => file.startsWith(`${layer}/`));

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
}

/** Module specifiers of static, side-effect, re-exporting and dynamic imports, types included. */
function importsOf(text: string): string[] {
  const code = withoutComments(text);
  const patterns = [/^\s*(?:import|export)\b[^;'"]*?\bfrom\s*['"]([^'"]+)['"]/gm, /\bimport\s*\(?\s*['"]([^'"]+)['"]/g];
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1]));
}

/** What a file's imports break, one sentence each. */
function violations(file: string, text: string): string[] {
  const found: string[] = [];
  const own = layerOf(file);
  if (own < 0) found.push(`${file} is in no layer`);
  for (const specifier of importsOf(text)) {
    if (specifier.startsWith('.')) {
      const target = posix.normalize(posix.join(posix.dirname(file), specifier)).replace(/\.js$/, '.ts');
      const layer = layerOf(target);
      if (layer < 0 || layer > own) found.push(`${file} imports ${target}`);
    } else if (isPortable(file) && (specifier.startsWith('node:') || specifier === 'webgpu')) {
      found.push(`${file} imports ${specifier}`);
    }
  }
  if (isPortable(file) && /(?<![.\w])(process|Buffer|__dirname|require)\s*[.(]/.test(withoutComments(text)))
    found.push(`${file} uses a global of Node`);
  return found;
}

function sources(): string[] {
  return ['src', 'models', 'datasets', 'bench']
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true }).map((name) => join(root, folder, `${name}`)),
    )
    .filter((file) => file.endsWith('.ts'))
    .map((file) => relative(root, file).replaceAll('\\', '/'));
}

describe('layers', () => {
  it.each(sources())('%s imports only from its row and those above', (file) => {
    expect(violations(file, readFileSync(join(root, file), 'utf8'))).toEqual([]);
  });

  it('notices each kind of violation', () => {
    const bad = [
      ["import { a } from '../train/sft.js';", 'src/gpu/x.ts imports src/train/sft.ts'],
      ["import type {\n  A,\n} from '../cli/gpu.js';", 'src/gpu/x.ts imports src/cli/gpu.ts'],
      ["export * from '../../test/reference/x.js';", 'src/gpu/x.ts imports test/reference/x.ts'],
      ["const fs = await import('node:fs');", 'src/gpu/x.ts imports node:fs'],
      ["import 'webgpu';", 'src/gpu/x.ts imports webgpu'],
      ['const x = Buffer.alloc(1);', 'src/gpu/x.ts uses a global of Node'],
    ];
    for (const [text, message] of bad) expect(violations('src/gpu/x.ts', text)).toEqual([message]);
    expect(violations('src/evaluate/x.ts', "import { a } from '../../datasets/norms.js';")).toHaveLength(1);
    expect(violations('src/lonely.ts', '')).toEqual(['src/lonely.ts is in no layer']);
  });

  it('lets through what is allowed', () => {
    const text =
      "// import x from '../train/a.js'\nimport { InputError } from '../errors.js';\nimport fs from 'node:fs';";
    expect(violations('src/cli/x.ts', `${text}\nimport { b } from '../../bench/kernels/b.js';`)).toEqual([]);
  });
});
