import { UsageError } from '../errors.js';
import { checkWhole } from './check-numbers.js';
import type { PlanArguments } from './plan-options.js';

/** Prompts to plan for where there are none yet: as long as the options say, and different behind what they share. */
export function assumedPrompts(
  count: number,
  { promptLength, sharedPromptLength }: Pick<PlanArguments, 'promptLength' | 'sharedPromptLength'>,
): Int32Array[] {
  checkWhole('prompt-length', promptLength, 1);
  checkWhole('shared-prompt-length', sharedPromptLength, 0);
  if (sharedPromptLength >= promptLength)
    throw new UsageError(
      `--shared-prompt-length ${sharedPromptLength} must be less than --prompt-length ${promptLength}.`,
    );
  return Array.from({ length: count }, (_, prompt) =>
    new Int32Array(promptLength).fill(prompt + 1, sharedPromptLength),
  );
}
