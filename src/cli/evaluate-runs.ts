import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError, UsageError } from '../errors.js';
import type { Base, Provenance } from '../evaluate/result.js';
import type { Adapter } from '../formats/adapter.js';
import type { AdapterWeights } from '../model/adapter.js';
import type { LanguageModel } from '../model/language-model.js';
import { digestFile } from '../text/lines.js';
import type { EvaluateArguments } from './evaluate.js';
import { openAdapterDirectory, withLoadedModel } from './inference.js';
import { createProgress } from './progress.js';
import type { OpenModel } from './session.js';
import { commandLine } from './usage.js';

/** A model that is measured: the base with an adapter, or alone. */
export interface Run {
  readonly name: string;
  /** PEFT directory; null for the base. */
  readonly directory: string | null;
}

/** Which models the options mean: one, or one before and one after. */
export function chooseRuns({ adapter, before, after }: EvaluateArguments): Run[] {
  const run = (name: string, directory = 'none'): Run => ({ name, directory: directory === 'none' ? null : directory });
  if (after === undefined) {
    if (before !== undefined) throw new UsageError('--before needs --after.');
    return [run(adapter === undefined ? 'base' : 'adapter', adapter)];
  }
  if (adapter !== undefined) throw new UsageError('Give --adapter for one model, or --before and --after for two.');
  return [run('before', before), run('after', after)];
}

/**
 * Checks every adapter, then opens the device once and measures each run in turn, telling how far it is with `what` is
 * asked; gives also what they ran on.
 */
export async function measureRuns<T>(
  args: EvaluateArguments,
  model: OpenModel,
  runs: readonly Run[],
  maxPositions: number,
  what: string,
  measure: (loaded: LanguageModel, adapter: AdapterWeights | null, onProgress: (share: number) => void) => Promise<T>,
): Promise<{ readonly measured: T[]; readonly base: Base }> {
  const adapters: (Adapter | null)[] = [];
  for (const { directory } of runs) adapters.push(await openAdapterDirectory(directory ?? undefined, model));
  return withLoadedModel(args, model, null, maxPositions, async (loaded) => {
    const measured: T[] = [];
    for (const [i, run] of runs.entries()) {
      const adapter = adapters[i];
      const weights = adapter && (await loaded.addAdapter(adapter, { trainable: false }));
      const progress = createProgress();
      const onProgress = (share: number) =>
        progress.update(share, `${run.name}: ${what}: ${Math.round(100 * share)} %`);
      measured.push(await measure(loaded, weights, onProgress).finally(progress.end));
      weights?.destroy();
    }
    return { measured, base: { model: model.directory, quantize: args.quantize, tier: loaded.tier } };
  });
}

/** Throws InputError where a text and what comes behind it pass the model's positions. */
export function checkPositions(model: OpenModel, tokens: number, what: string, mend: string): void {
  const { maxPositions } = model.config;
  if (tokens > maxPositions) {
    throw new InputError(`${what} come to ${tokens} tokens, more than the model's ${maxPositions} positions: ${mend}.`);
  }
}

/** What a result was made of. */
export async function provenance(
  args: EvaluateArguments,
  given: ReadonlySet<string>,
  runs: readonly Run[],
  inputs: readonly string[],
): Promise<Provenance> {
  const adapters = runs.flatMap(({ directory }) => (directory ? [join(directory, 'adapter_model.safetensors')] : []));
  const files: { file: string; sha256: string }[] = [];
  for (const file of [...new Set([...inputs, ...adapters])]) {
    if ((await stat(file).catch(() => null))?.isFile()) files.push({ file, sha256: await digestFile(file) });
  }
  return {
    command: commandLine(
      ['evaluate', String(args.measure)],
      args,
      [...given].filter((name) => name !== 'config'),
    ),
    created: new Date().toISOString(),
    files,
  };
}
