import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { writeSafetensors } from '../../src/formats/safetensors-file.js';
import { loadGolden, readSafetensors } from '../golden.js';
import { lexalign } from './sft-helpers.js';

const directory = mkdtempSync(join(tmpdir(), 'lexalign-check-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const golden = loadGolden('llama').directory;
const model = ['--model', join(golden, 'model')];
const A = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight';
const B = 'base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight';

interface Tensor {
  shape: number[];
  values: Float32Array;
}

let count = 0;
/** The golden adapter, of rank 4 on q_proj and v_proj of a hidden size of 64, changed. */
async function changed(
  change: (tensors: Map<string, Tensor>, config: Record<string, unknown>) => void,
): Promise<string> {
  const dir = join(directory, `adapter-${count++}`);
  cpSync(join(golden, 'adapter'), dir, { recursive: true });
  const weights = join(dir, 'adapter_model.safetensors');
  const config = JSON.parse(readFileSync(join(dir, 'adapter_config.json'), 'utf8'));
  const tensors = new Map<string, Tensor>();
  for (const [name, values] of readSafetensors(weights)) {
    const shape = name.includes('lora_A') ? [4, values.length / 4] : [values.length / 4, 4];
    tensors.set(name, { shape, values: Float32Array.from(values) });
  }
  change(tensors, config);
  writeFileSync(join(dir, 'adapter_config.json'), JSON.stringify(config));
  const written = [...tensors].map(([name, { shape, values }]) => {
    return { name, dtype: 'F32' as const, shape, data: new Uint8Array(values.buffer) };
  });
  await writeSafetensors(weights, written);
  return dir;
}

describe('lexalign check-adapter', () => {
  it('says how each runtime takes a good adapter', async () => {
    const adapter = join(golden, 'adapter');
    const { code, stdout } = await lexalign('check-adapter', adapter, ...model);
    expect(code).toBe(0);
    expect(stdout).toContain('LORA, r 4, alpha 8 (scale alpha / r), 4 modules (q_proj, v_proj)');
    expect(stdout).toMatch(/^Base model: .*\(llama\): every tensor fits$/m);
    expect(stdout).toMatch(/^lexalign +as it is/m);
    expect(stdout).toMatch(/^PEFT +as it is/m);
    expect(stdout).toMatch(/^vLLM +as it is +--enable-lora --max-lora-rank 8$/m);
    expect(stdout).toMatch(/^llama\.cpp +exported .*--format gguf .*architecture llama$/m);
    expect(stdout).toMatch(/^mlx-lm +exported/m);
    expect(stdout).not.toMatch(/^(Wrong|Odd|Not for)/m);
  });

  it('tells what a base must be that is not here', async () => {
    const { code, stdout } = await lexalign('check-adapter', join(golden, 'adapter'));
    expect(code).toBe(0);
    expect(stdout).toContain(
      'none named, not here (--model DIR looks closer); it must have 2 layers, q_proj of [64, 64], v_proj of [32, 64]',
    );
    expect(stdout).toMatch(/^lexalign +as it is +if it fits its base$/m);
  });

  it.each<[string, Parameters<typeof changed>[0], RegExp]>([
    [
      'values that are no numbers',
      (t) => t.get(A)!.values.set([Number.NaN, Number.POSITIVE_INFINITY]),
      /q_proj\.lora_A\.weight has 2 values that are infinite or not numbers/,
    ],
    ['half of a pair', (t) => t.delete(B), /layers\.0\.self_attn\.q_proj has lora_A but no lora_B/],
    [
      'ranks that differ',
      (t) => t.set(B, { shape: [64, 3], values: new Float32Array(192) }),
      /lora_A \[4, 64\] and lora_B \[64, 3\] differ in rank/,
    ],
    ['a rank that is not r', (_, config) => Object.assign(config, { r: 5 }), /q_proj has rank 4, r is 5/],
    [
      'another width',
      (t) => t.set(A, { shape: [4, 48], values: new Float32Array(192).fill(1) }),
      /q_proj adapts \[64, 48\], the base model has \[64, 64\]/,
    ],
    [
      'an unknown module',
      (t) => {
        t.set(A.replace('q_proj', 'qkv'), t.get(A)!);
        t.set(B.replace('q_proj', 'qkv'), t.get(B)!);
      },
      /layers\.0\.self_attn\.qkv is no linear layer of the base model/,
    ],
  ])('finds %s, and no runtime that takes it', async (_, change, message) => {
    const { code, stdout } = await lexalign('check-adapter', await changed(change), ...model);
    expect(code).toBe(1);
    expect(stdout).toMatch(new RegExp(`^Wrong: .*${message.source}`, 'm'));
    expect(stdout.match(/^(lexalign|PEFT|vLLM|llama\.cpp|ollama|mlx-lm) +no +it is broken/gm)).toHaveLength(6);
  });

  it.each<[string, Parameters<typeof changed>[0], RegExp]>([
    [
      'DoRA',
      (t, config) => {
        config.use_dora = true;
        t.set(B.replace('lora_B.weight', 'lora_magnitude_vector'), { shape: [64], values: new Float32Array(64) });
      },
      /use_dora is set: DoRA[\s\S]*lora_magnitude_vector is a magnitude of DoRA/,
    ],
    [
      'saved modules',
      (t, config) => {
        config.modules_to_save = ['lm_head'];
        t.set('base_model.model.lm_head.weight', { shape: [1, 2], values: new Float32Array(2) });
      },
      /modules_to_save is set[\s\S]*lm_head\.weight is a whole module that was trained/,
    ],
    ['another kind', (_, config) => Object.assign(config, { peft_type: 'IA3' }), /peft_type is "IA3", not "LORA"/],
    ['a trained bias', (_, config) => Object.assign(config, { bias: 'all' }), /bias is "all": trained biases/],
  ])('leaves to PEFT what is not computed here: %s', async (_, change, message) => {
    const { code, stdout } = await lexalign('check-adapter', await changed(change), ...model);
    expect(code).toBe(1);
    expect(stdout).toMatch(new RegExp(`^Not for lexalign: [\\s\\S]*${message.source}`, 'm'));
    expect(stdout).toMatch(/^lexalign +no/m);
    expect(stdout).toMatch(/^PEFT +as it is/m);
    expect(stdout).toMatch(/^vLLM +no/m);
    expect(stdout).toMatch(/^llama\.cpp +no +lexalign does not export it/m);
  });

  it('knows what lexalign alone does not read', async () => {
    const adapter = await changed((_, config) => Object.assign(config, { init_lora_weights: 'pissa' }));
    const { code, stdout } = await lexalign('check-adapter', adapter, ...model);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^Not for lexalign: .*init_lora_weights is "pissa"/m);
    expect(stdout).toMatch(/^vLLM +as it is/m);
    expect(stdout).toMatch(/^mlx-lm +no/m);
  });

  it('warns of an adapter that adds nothing, and knows the limits of vLLM', async () => {
    const patterned = await changed((t, config) => {
      t.get(B)!.values.fill(0);
      config.alpha_pattern = { q_proj: 16 };
    });
    const json = join(directory, 'result.json');
    const { code, stdout } = await lexalign('check-adapter', patterned, ...model, '--json', json);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Odd: \S+q_proj\.lora_B\.weight is all zero: the module adds nothing\.$/m);
    expect(stdout).toMatch(/^vLLM +no +it does not read alpha_pattern: merge the adapter instead$/m);
    const result = JSON.parse(readFileSync(json, 'utf8'));
    expect(result.errors).toEqual([]);
    expect(result.warnings).toHaveLength(1);
    expect(result.modules['model.layers.1.self_attn.v_proj']).toEqual({ r: 4, out: 32, in: 64 });
    expect(result.verdicts.map(({ runtime }: { runtime: string }) => runtime)).toContain('ollama');
  });

  it('refuses what is no adapter', async () => {
    const { code, stderr } = await lexalign('check-adapter', join(golden, 'model'));
    expect(code).toBe(1);
    expect(stderr).toMatch(/adapter_config\.json does not exist/);
  });
});
