import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { InputError } from '../src/errors.js';
import { parseTable } from '../src/text/table.js';
import { openGeneric } from './generic.js';
import { type Language, type Norms, NormsCollector } from './norms.js';
import { ParticipantFilter } from './participants.js';

const FILES = { en: 'en-us.tsv', zh: 'zh-cn.tsv' } as const;

/** Where the embedded lists of a language lie. Throws InputError where they are missing. */
export function miniNormsFile(language: Language): string {
  // The tables lie beside this file, or beside `dist/` when it was compiled into it.
  const places = ['./mini-norms/', '../../datasets/mini-norms/'].map((path) =>
    fileURLToPath(new URL(path + FILES[language], import.meta.url)),
  );
  const file = places.find((place) => existsSync(place));
  if (!file) throw new InputError(`${places[0]}: missing; install lexalign again`);
  return file;
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
