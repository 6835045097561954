import { countSupervised } from '../batch/examples.js';
import { type Example, unsupervised } from '../batch/types.js';
import type { LoadedData } from './load-data.js';
import type { OpenModel } from './session.js';

const longestPreview = 600;

/** What a run prints of its data before step 1: counts, and one example with its supervised part in ⟦…⟧. */
export function previewData(data: LoadedData, model: OpenModel): string[] {
  const { stats, examples, file } = data;
  const dropped = stats.dropped > 0 ? `, ${stats.dropped} dropped as too long` : '';
  const truncated = stats.truncated > 0 ? `, ${stats.truncated} truncated` : '';
  return [
    `Data: ${examples.length} rows of ${file}${truncated}${dropped}; ${stats.tokens} tokens, ${stats.supervisedTokens} of them supervised.`,
    'First row, its supervised part in ⟦ ⟧:',
    ...markSupervised(examples[0], model)
      .split('\n')
      .map((line) => `  ${line}`),
  ];
}

/** The example's text (or ids, without a tokenizer) with each supervised stretch in ⟦…⟧. */
function markSupervised(example: Example, model: OpenModel): string {
  const { ids, labels } = example;
  const show = (from: number, to: number) => {
    const part = ids.subarray(from, to);
    return model.tokenizer ? model.tokenizer.decode(part, { skipSpecials: false }) : Array.from(part).join(' ');
  };
  let text = '';
  for (let i = 0; i < ids.length; ) {
    const supervised = i > 0 && labels[i] !== unsupervised;
    let end = i + 1;
    while (end < ids.length && (labels[end] !== unsupervised) === supervised) end++;
    text += supervised ? `⟦${show(i, end)}⟧` : show(i, end);
    i = end;
  }
  if (countSupervised(labels) === 0) return `${text} (nothing supervised)`;
  return text.length > longestPreview
    ? `${text.slice(0, longestPreview / 2)} … ${text.slice(-longestPreview / 2)}`
    : text;
}
