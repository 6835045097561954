// What lies in a run's checkpoints/: adapters with the moments of their optimiser, and the trainer's state.

import { readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import { type Adapter, type LoraPair, peftTensorName, peftTensors } from '../formats/adapter.js';
import {
  hasFile,
  makeDirectory,
  move,
  openFile,
  readJsonInside,
  resolveInside,
  writeFileAtomic,
} from '../formats/files.js';
import { isRecord } from '../formats/keys.js';
import { readAdapter, writeAdapter } from '../formats/peft.js';
import { readHeader, readTensor, toFloat32 } from '../formats/safetensors.js';
import { writeSafetensors } from '../formats/safetensors-file.js';
import type { Moments } from '../model/adapter.js';
import { latestCheckpoint } from '../train/checkpoint-schedule.js';
import { refuseBusy } from './writer-lock.js';

const MOMENTS = 'optimizer.safetensors';
const STATE = 'trainer_state.json';

/** An adapter that is being trained. */
export interface Trained {
  readonly adapter: Adapter;
  readonly moments: Moments;
}

/** Writes an adapter with its moments into a directory. */
export async function writeTrained(directory: string, { adapter, moments }: Trained, base: string): Promise<void> {
  await writeAdapter(directory, adapter, base);
  const named = (pairs: ReadonlyMap<string, LoraPair>, prefix: string) =>
    peftTensors({ config: adapter.config, tensors: pairs }).map((tensor) => ({
      ...tensor,
      name: `${prefix}.${tensor.name}`,
    }));
  await writeSafetensors(join(directory, MOMENTS), [
    ...named(moments.first, 'first'),
    ...named(moments.second, 'second'),
  ]);
}

/** Reads what `writeTrained` wrote, for a model of these linear layers. Throws InputError. */
export async function readTrained(
  directory: string,
  modules: ReadonlyMap<string, { readonly out: number; readonly in: number }>,
): Promise<Trained> {
  const adapter = await readAdapter(directory, modules);
  const source = await openFile(await resolveInside(directory, MOMENTS), join(directory, MOMENTS));
  try {
    const { tensors } = await readHeader(source);
    const read = async (name: string, elements: number) => {
      const info = tensors.get(name);
      if (info?.dtype !== 'F32' || info.shape.reduce((a, b) => a * b, 1) !== elements)
        throw new InputError(`${source.name}: tensor ${name} is missing or of another size than the adapter's`);
      return toFloat32('F32', await readTensor(source, info));
    };
    const moments = { first: new Map<string, LoraPair>(), second: new Map<string, LoraPair>() };
    for (const which of ['first', 'second'] as const) {
      for (const [path, { A, B }] of adapter.tensors) {
        moments[which].set(path, {
          A: await read(`${which}.${peftTensorName(path, 'A')}`, A.length),
          B: await read(`${which}.${peftTensorName(path, 'B')}`, B.length),
        });
      }
    }
    return { adapter, moments };
  } finally {
    await source.close();
  }
}

/** A checkpoint appears whole, and replaces one of its name whole: `write` fills it beside, and it is moved into place. */
export async function writeCheckpoint(
  run: string,
  name: string,
  state: object,
  write: (directory: string) => Promise<void>,
): Promise<void> {
  const checkpoints = join(run, 'checkpoints');
  const path = join(checkpoints, name);
  const fresh = join(checkpoints, `.${name}.new`);
  const old = join(checkpoints, `.${name}.old`);
  await rm(fresh, { recursive: true, force: true });
  try {
    await makeDirectory(fresh);
    await write(fresh);
    await writeFileAtomic(join(fresh, STATE), `${JSON.stringify(state, null, 2)}\n`);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    throw await sayHowToGoOn(run, error);
  }
  await rm(old, { recursive: true, force: true });
  await move(path, old).catch(ignoreMissing);
  await move(fresh, path);
  await rm(old, { recursive: true, force: true });
}

/** An error of what could not be written into a run, a full disk for instance, with what the user does once that is mended. */
export async function sayHowToGoOn(run: string, error: unknown): Promise<unknown> {
  if (!(error instanceof InputError)) return error;
  const names = await readdir(join(run, 'checkpoints')).catch(() => []);
  const whole = names.some((name) => !name.startsWith('.'));
  return new InputError(
    `${error.message}. ${whole ? `Mend that, then go on with --resume from the newest checkpoint of ${run}` : 'Mend that, then start anew in another directory: there is no checkpoint yet'}.`,
  );
}

/**
 * Takes away what was there for a run that is killed, once the run has ended and written what it ends with; and what is left
 * of checkpoints that a kill interrupted.
 */
export async function removeLatest(run: string): Promise<void> {
  const checkpoints = join(run, 'checkpoints');
  for (const name of await readdir(checkpoints).catch(() => []))
    if (name === latestCheckpoint || /^\..*\.(new|old)$/.test(name))
      await rm(join(checkpoints, name), { recursive: true, force: true });
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}

/** A checkpoint of a run, and how far it had come. */
export interface FoundCheckpoint {
  readonly path: string;
  readonly run: string;
  readonly step: number;
}

/**
 * The checkpoint that `--resume` means: the newest of the run `output` where it names none. Throws InputError where
 * there is none, where the run goes on still, or where it is not the run's newest: what came after it would be mixed with
 * what is to come.
 */
export async function findCheckpoint(resume: string | true, output: string | undefined): Promise<FoundCheckpoint> {
  if (resume === true && output === undefined)
    throw new InputError('--resume needs the run: give its directory as --output, or a checkpoint as --resume DIR.');
  const named = resume === true ? null : resolve(resume);
  if (named && (basename(dirname(named)) !== 'checkpoints' || !(await hasFile(named, STATE))))
    throw new InputError(`--resume ${resume} is not a checkpoint of a run: name one as RUN/checkpoints/step-000150.`);
  const run = named ? dirname(dirname(named)) : resolve(output!);
  if (output !== undefined && resolve(output) !== run)
    throw new InputError(
      `--resume ${resume} belongs to the run ${run}, not to --output ${output}: leave --output out.`,
    );
  await refuseBusy(run);
  const checkpoints = join(run, 'checkpoints');
  const found: (FoundCheckpoint & { readonly due: boolean })[] = [];
  for (const name of await readdir(checkpoints).catch(() => [])) {
    // Interrupted while one replaced another: the old one is whole.
    const replaced = /^\.(.+)\.old$/.exec(name)?.[1];
    if (replaced && !(await stat(join(checkpoints, replaced)).catch(() => null)))
      await move(join(checkpoints, name), join(checkpoints, replaced));
    const path = join(checkpoints, replaced ?? name);
    if ((!replaced && name.startsWith('.')) || !(await hasFile(path, STATE))) continue;
    const state = await readState(path);
    found.push({ path, run, step: stepOf(state), due: state.evaluationDue === true });
  }
  // Of the same step, "best" goes last: its run had that much to write yet. But one of before the evaluation is older.
  found.sort(
    (a, b) => b.step - a.step || Number(a.due) - Number(b.due) || (basename(a.path) < basename(b.path) ? 1 : -1),
  );
  if (found.length === 0) {
    const from = (await hasFile(run, 'adapter_model.safetensors')) ? `, from its adapter by --init-adapter ${run}` : '';
    throw new InputError(`--resume: ${run} has no checkpoint to go on from: start anew in another directory${from}.`);
  }
  const chosen = named ? found.find(({ path }) => path === named) : found[0];
  if (!chosen)
    throw new InputError(`--resume ${resume} is not a checkpoint of ${run}, whose newest is ${found[0].path}.`);
  if (chosen.step < found[0].step || (chosen.due && !found[0].due))
    throw new InputError(
      `--resume ${resume} is at step ${chosen.step}, but the run has come to ${found[0].path}: move the later checkpoints away first.`,
    );
  return chosen;
}

/** trainer_state.json of a checkpoint, as it stands. */
export async function readState(checkpoint: string): Promise<Record<string, unknown>> {
  const { path, value } = await readJsonInside(checkpoint, STATE);
  if (!isRecord(value)) throw new InputError(`${path} is not a JSON object`);
  return value;
}

function stepOf(state: Record<string, unknown>): number {
  return Number.isSafeInteger(state.step) ? (state.step as number) : -1;
}
