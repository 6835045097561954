// The cache of models that Hugging Face's libraries share: models--ORG--NAME/{blobs,refs,snapshots/COMMIT}.
// https://huggingface.co/docs/huggingface_hub/guides/manage-cache
import { readdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { weightFiles } from './checkpoint.js';
import { hasFile } from './files.js';

/** A model of the hub, at a branch, a tag or a commit. */
export interface HubModel {
  /** ORG/NAME */
  readonly id: string;
  readonly revision: string;
}

const HUB_ID = /^([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?$/;
export const COMMIT = /^[0-9a-f]{40}$/;

/** Reads ORG/NAME or ORG/NAME@REVISION (main without one); null for what is neither. */
export function parseHubModel(text: string): HubModel | null {
  const [, id, revision = 'main'] = HUB_ID.exec(text) ?? [];
  return id === undefined || `${id}/${revision}`.includes('..') ? null : { id, revision };
}

/** The hub id of a directory that is a snapshot of the cache; null of any other. */
export function hubIdOf(directory: string): string | null {
  const [, org, name] = /models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\]/.exec(`${directory}/`) ?? [];
  return org === undefined ? null : `${org}/${name}`;
}

/** Hugging Face's own directory, by the variables that its libraries read. */
export function hubHome(): string {
  const { HF_HOME, XDG_CACHE_HOME } = process.env;
  return HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
}

/** The directory of a model in the cache, whether it is there or not. */
export function hubRepository({ id }: Pick<HubModel, 'id'>): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = process.env;
  const cache = HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(hubHome(), 'hub');
  return join(cache, `models--${id.replace('/', '--')}`);
}

/**
 * The snapshot of a model that the cache holds with all of its weights, as the cache knows the revision; else null. The hub
 * doesn't tell upper from lower case in names, and adapters name their base in either (unsloth's in lower), so another
 * spelling is taken where this one is not there.
 */
export async function cachedSnapshot({ id, revision }: HubModel): Promise<string | null> {
  const exact = hubRepository({ id });
  const known = (await readdir(dirname(exact)).catch(() => [])).sort();
  const same = known.filter((name) => name.toLowerCase() === basename(exact).toLowerCase());
  for (const repository of new Set([exact, ...same.map((name) => join(dirname(exact), name))])) {
    const snapshot = await wholeSnapshot(repository, revision);
    if (snapshot !== null) return snapshot;
  }
  return null;
}

async function wholeSnapshot(repository: string, revision: string): Promise<string | null> {
  const named = await readFile(join(repository, 'refs', revision), 'utf8').catch(() => '');
  const commit = COMMIT.test(revision) ? revision : named.trim();
  if (!COMMIT.test(commit)) return null;
  const snapshot = join(repository, 'snapshots', commit);
  if (!(await hasFile(snapshot, 'config.json'))) return null;
  const weights = await weightFiles(snapshot);
  for (const file of weights ?? []) if (!(await hasFile(snapshot, file))) return null;
  return weights && snapshot;
}
