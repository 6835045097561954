import { packMicroBatches } from '../batch/pack.js';
import { buildTrie } from '../batch/trie.js';
import type { Example } from '../batch/types.js';
import type { Dispatch } from '../gpu/program.js';
import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { LossPrograms } from '../model/loss-program.js';

/** Time, floating-point operations and bytes of one operation over a program. */
export interface OperationProfile {
  readonly operation: string;
  readonly dispatches: number;
  readonly milliseconds: number;
  readonly gflops: number;
  readonly gbps: number;
}

/** Sums dispatches by label, longest first. Rates are at the program's full capacity times `fill` (live rows / rows). */
function summarizeProfile(
  dispatches: readonly Dispatch[],
  nanoseconds: readonly number[],
  fill: number,
): OperationProfile[] {
  const sums = new Map<string, { count: number; ns: number; flops: number; bytes: number }>();
  dispatches.forEach((dispatch, i) => {
    const sum = sums.get(dispatch.label) ?? { count: 0, ns: 0, flops: 0, bytes: 0 };
    sum.count++;
    sum.ns += nanoseconds[i];
    sum.flops += (dispatch.flops ?? 0) * fill;
    sum.bytes += dispatch.bytes ?? 0;
    sums.set(dispatch.label, sum);
  });
  return [...sums]
    .map(([operation, { count, ns, flops, bytes }]) => ({
      operation,
      dispatches: count,
      milliseconds: ns / 1e6,
      gflops: ns > 0 ? flops / ns : 0,
      gbps: ns > 0 ? bytes / ns : 0,
    }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
}

/** Times every operation of one training step of these rows by GPU timestamps. */
export async function timeStep(
  model: LanguageModel,
  weights: AdapterWeights,
  rows: readonly Example[],
  { microBatchTokens, recompute }: { microBatchTokens: number; recompute: number },
): Promise<{ profile: OperationProfile[]; tokens: number }> {
  const programs = new LossPrograms(model, { adapter: weights, backward: true, recompute });
  const [indices] = packMicroBatches(rows, microBatchTokens);
  const trie = buildTrie(indices.map((i) => rows[i]));
  const { batch, program } = await programs.prepare(trie);
  const values = { gradScale: 1, dropout: 0, seed: 0 };
  await program.run(batch, values);
  const nanoseconds = await program.time(batch, values);
  const profile = summarizeProfile(program.program.dispatches, nanoseconds, batch.rows / batch.capacity);
  programs.destroy();
  return { profile, tokens: batch.rows };
}

/** The profile of one step as a table. */
export async function profileStep(
  model: LanguageModel,
  weights: AdapterWeights,
  rows: readonly Example[],
  options: { microBatchTokens: number; recompute: number },
): Promise<string[]> {
  if (!model.device.features.timestamps) return ['--profile: this device has no timestamp-query.'];
  const { profile, tokens } = await timeStep(model, weights, rows, options);
  return formatProfile(profile, tokens);
}

export function formatProfile(profile: readonly OperationProfile[], tokens: number): string[] {
  const total = profile.reduce((sum, p) => sum + p.milliseconds, 0);
  return [
    `One micro-batch of ${tokens} tokens by operation (GPU timestamps, ${total.toFixed(1)} ms in all):`,
    `  ${'operation'.padEnd(24)} ${'count'.padStart(6)} ${'ms'.padStart(10)} ${'share'.padStart(7)} ${'GFLOP/s'.padStart(9)} ${'GB/s'.padStart(8)}`,
    ...profile.map(
      (p) =>
        `  ${p.operation.padEnd(24)} ${String(p.dispatches).padStart(6)} ${p.milliseconds.toFixed(2).padStart(10)} ` +
        `${((100 * p.milliseconds) / total).toFixed(1).padStart(6)}% ${p.gflops.toFixed(1).padStart(9)} ${p.gbps.toFixed(2).padStart(8)}`,
    ),
  ];
}
