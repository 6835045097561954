import { brysbaert } from './brysbaert.js';
import { generic } from './generic.js';
import { globalOpinionQa } from './global-opinion-qa.js';
import { lwow } from './lwow.js';
import type { Source } from './source.js';
import { swowEn } from './swow-en.js';
import { swowNl } from './swow-nl.js';
import { swowRp } from './swow-rp.js';
import { swowZh } from './swow-zh.js';
import { usf } from './usf.js';
import { warriner } from './warriner.js';
import { wordNorms } from './word-norms.js';
import { wvs } from './wvs.js';

/** Every source that `lexalign data` reads, in the order of its help. */
export const sources: readonly Source[] = [
  swowEn,
  swowZh,
  swowRp,
  swowNl,
  usf,
  lwow,
  generic,
  warriner,
  brysbaert,
  wordNorms,
  wvs,
  globalOpinionQa,
];
