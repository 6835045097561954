import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/paths.js';
import { parseTable } from '../src/text/table.js';
import { openGeneric } from './generic.js';
import { type Language, type Norms, NormsCollector } from './norms.js';
import { ParticipantFilter } from './participants.js';

const FILES = { en: 'en-us.tsv', zh: 'zh-cn.tsv' } as const;

/** Where the embedded lists of a language lie. */
export function miniNormsFile(language: Language): string {
  return join(packageRoot, 'datasets', 'mini-norms', FILES[language]);
}

/** The embedded demonstration lists: 360 cues a language, written by a language model, not by people. */
export function loadMiniNorms(language: Language): Norms {
  const file = miniNormsFile(language);
  const { header, rows } = parseTable(readFileSync(file, 'utf8'), file);
  const { read } = openGeneric(header, { filter: new ParticipantFilter([], []), positions: null });
  const collector = new NormsCollector();
  for (const row of rows) for (const association of read(row) ?? []) collector.add(association);
  return collector.finish(language);
}
