import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gguf } from '@huggingface/gguf';
import { afterAll, describe, expect, it } from 'vitest';
import { modelLayout } from '../../models/index.js';
import { linearShapes } from '../../models/tensors.js';
import { openCheckpoint } from '../../src/formats/checkpoint.js';
import { mergePiece } from '../../src/formats/merge.js';
import { writeMergedModel } from '../../src/formats/merged-model.js';
import { readAdapter } from '../../src/formats/peft.js';
import { GOLDEN } from '../formats/helpers.js';
import { loadGolden } from '../golden.js';
import { runCli } from './run.js';
import { lexalign } from './sft-helpers.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-export-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (name: string) => join(directory, name);

const golden = loadGolden('llama-llama3-rope').directory;
const from = ['--adapter', join(golden, 'adapter'), '--model', join(golden, 'model')];
const run = (format: string, output: string, ...more: string[]) =>
  lexalign('export', ...from, '--format', format, '--output', at(output), ...more);

async function read() {
  const checkpoint = await openCheckpoint(join(golden, 'model'), modelLayout);
  return { checkpoint, shapes: linearShapes(checkpoint.config) };
}

describe('lexalign export', () => {
  it('writes PEFT without loss, and the model card along with it', async () => {
    const source = at('source');
    cpSync(join(golden, 'adapter'), source, { recursive: true });
    writeFileSync(join(source, 'README.md'), 'a card');
    const outcome = await lexalign(
      ...['export', '--adapter', source, '--model', join(golden, 'model')],
      ...['--format', 'peft', '--output', at('peft')],
    );
    expect(outcome.code, outcome.stderr).toBe(0);
    const { checkpoint, shapes } = await read();
    expect(await readAdapter(at('peft'), shapes)).toEqual(await readAdapter(source, shapes));
    expect(readFileSync(join(at('peft'), 'README.md'), 'utf8')).toBe('a card');
    await checkpoint.close();
  });

  it('writes GGUF in the type asked for', async () => {
    const outcome = await run('gguf', 'q8.gguf', '--dtype', 'q8_0');
    expect(outcome.code, outcome.stderr).toBe(0);
    expect(outcome.stdout).toContain(`llama-cli -m BASE.gguf --lora ${at('q8.gguf')}`);
    const { metadata, tensorInfos } = await gguf(at('q8.gguf'), { allowLocalFile: true });
    expect(metadata).toMatchObject({ 'general.type': 'adapter', 'general.file_type': 7 });
    expect(tensorInfos).toHaveLength(2 * 7 * 2);
  });

  it('writes an MLX adapter', async () => {
    const outcome = await run('mlx', 'mlx', '--dtype', 'bf16');
    expect(outcome.code, outcome.stderr).toBe(0);
    expect(readdirSync(at('mlx')).sort()).toEqual(['adapter_config.json', 'adapters.safetensors']);
  });

  it('merges in threads what one thread merges, with a card', async () => {
    const outcome = await runCli('export', ...from, '--format', 'merged', '--output', at('merged'));
    expect(outcome.code, outcome.stderr).toBe(0);
    expect(outcome.stderr).toMatch(/ of .* merged, /);
    expect(outcome.stdout).toMatch(/A model of .* in F16, merged by \d+ threads? in/);
    const { checkpoint, shapes } = await read();
    await writeMergedModel(at('expected'), checkpoint, await readAdapter(join(golden, 'adapter'), shapes), {
      dtype: 'F16',
      known: new Set(),
      readme: '',
      run: async (piece) => mergePiece(piece),
      parallel: 1,
      progress: () => undefined,
    });
    await checkpoint.close();
    const bytes = (name: string) => readFileSync(join(at(name), 'model.safetensors'));
    expect(bytes('merged').equals(bytes('expected'))).toBe(true);
    expect(readFileSync(join(at('merged'), 'README.md'), 'utf8')).toMatch(/^---\nbase_model: model\n/);
  });

  it('ends with the tensor that F16 cannot hold, whichever thread met it, and leaves nothing', async () => {
    const large = at('large');
    cpSync(join(golden, 'adapter'), large, { recursive: true });
    const config = join(large, 'adapter_config.json');
    writeFileSync(config, readFileSync(config, 'utf8').replace(/"lora_alpha": [\d.]+/, '"lora_alpha": 1e9'));
    const outcome = await runCli(
      ...['export', '--adapter', large, '--model', join(golden, 'model')],
      ...['--format', 'merged', '--output', at('overflow')],
    );
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(
      /lexalign: tensor model\.layers\.\d\.\S+ holds values over 65,504, which F16 has not/,
    );
    expect(existsSync(at('overflow'))).toBe(false);
    expect(readdirSync(directory).filter((name) => name.startsWith('.overflow'))).toEqual([]);
  });

  it('unpacks a quantised base on request alone, with a warning', async () => {
    const quantised = join(GOLDEN, 'nf4-plain');
    const merged = [
      'export',
      '--adapter',
      join(quantised, 'adapter'),
      '--model',
      join(quantised, 'model'),
      '--format',
      'merged',
    ];
    const refused = await runCli(...merged, '--output', at('unpacked'));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/model is quantised: export for a runtime .* or say --dequantize to unpack it/);
    const done = await runCli(...merged, '--output', at('unpacked'), '--dequantize');
    expect(done.code, done.stderr).toBe(0);
    expect(done.stderr).toMatch(/Warning: .* is quantised.* not what the adapter was trained on/);
    expect(existsSync(join(at('unpacked'), 'model.safetensors'))).toBe(true);
  });

  it.each([
    ['gguf', 'taken.gguf', /taken\.gguf exists already: name a new file, or remove it/],
    ['peft', 'taken', /taken is not empty: name a new directory, or remove it/],
    ['mlx', 'taken', /taken is not empty/],
    ['merged', 'taken', /taken is not empty/],
  ])('writes over nothing: %s', async (format, output, message) => {
    mkdirSync(at('taken'), { recursive: true });
    writeFileSync(at('taken/file'), '');
    writeFileSync(at('taken.gguf'), 'mine');
    const outcome = await run(format, output);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(message);
    expect(readFileSync(at('taken.gguf'), 'utf8')).toBe('mine');
  });

  it.each<[string[], 1 | 2, RegExp]>([
    [['--format', 'onnx', '--output', at('x')], 2, /--format "onnx" is none of "peft", "gguf", "mlx", "merged"/],
    [
      ['--format', 'mlx', '--dtype', 'q8_0', '--output', at('x')],
      2,
      /--dtype q8_0 with --format mlx: it takes f32, f16, bf16/,
    ],
    [['--format', 'merged', '--dtype', 'f32', '--output', at('x')], 2, /--format merged: it takes f16, bf16/],
    [['--format', 'mlx', '--dequantize', '--output', at('x')], 2, /--dequantize is for --format merged/],
    [['--format', 'gguf', '--output', at('x')], 2, /name a file that ends in \.gguf/],
    [['--format', 'gguf', '--output', at('no/x.gguf')], 1, /no is not a directory that can be written to/],
  ])('refuses %j', async (args, code, message) => {
    const outcome = await lexalign('export', ...from, ...args);
    expect(outcome.code).toBe(code);
    expect(outcome.stderr).toMatch(message);
  });

  it('names the tensor that does not fit the base, and asks for a base that is not here', async () => {
    const other = loadGolden('llama').directory;
    const mismatched = ['--adapter', join(golden, 'adapter'), '--model', join(other, 'model')];
    const wrong = await lexalign('export', ...mismatched, '--format', 'gguf', '--output', at('x.gguf'));
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(
      /tensor \S+\.lora_[AB]\.weight has shape \[\d+, \d+\], model and r call for \[\d+, \d+\]/,
    );
    const nameless = await lexalign(
      ...['export', '--adapter', join(golden, 'adapter'), '--format', 'mlx', '--output', at('x')],
    );
    expect(nameless.code).toBe(1);
    expect(nameless.stderr).toMatch(
      /adapter_config\.json names no base model: give its directory or name with --model/,
    );
    expect(existsSync(at('x'))).toBe(false);
  });
});
