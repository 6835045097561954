import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { InputError } from '../src/errors.js';
import { parseCueResponseCount } from './cue-response-count.js';
import type { Language, Norms } from './norms.js';

const FILES = { en: 'en-us.tsv', zh: 'zh-cn.tsv' } as const;

/** The embedded demonstration lists: 360 cues a language, written by a language model, not by people. */
export function loadMiniNorms(language: Language): Norms {
  // The tables lie beside this file, or beside `dist/` when it was compiled into it.
  const places = ['./mini-norms/', '../../datasets/mini-norms/'].map((path) =>
    fileURLToPath(new URL(path + FILES[language], import.meta.url)),
  );
  const file = places.find((place) => existsSync(place));
  if (!file) throw new InputError(`${places[0]}: missing; install lexalign again`);
  return parseCueResponseCount(readFileSync(file, 'utf8'), file, language);
}
