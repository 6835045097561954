import { describe, expect, it } from 'vitest';
import { RolloutSchedule, type Sequence } from '../../src/model/rollout-schedule.js';
import { noSource, rowWords } from '../../src/ops/decode-rows.js';
import { createRandom } from '../../src/random.js';

/** Requests over three tokens, so that prompts share much. */
function requests(count: number, seed: number) {
  const random = createRandom(seed);
  return Array.from({ length: count }, (_, i) => ({
    prompt: Int32Array.from({ length: 1 + random.below(9) }, () => random.below(3)),
    seed: i,
  }));
}

describe('RolloutSchedule', () => {
  it.each([
    { slots: 4, promptPlaces: 8, stepRows: 8 },
    { slots: 3, promptPlaces: 40, stepRows: 6 },
    { slots: 16, promptPlaces: 20, stepRows: 64 },
    { slots: 1, promptPlaces: 8, stepRows: 2 },
  ])('computes every row when what it sees is there, and nothing twice: %o', (part) => {
    const size = { ...part, maxNewTokens: 5, maxPromptTokens: 9 };
    const all = requests(60, part.slots);
    const schedule = new RolloutSchedule(size, all);
    const random = createRandom(7);
    const table = new Uint32Array(size.stepRows * rowWords);
    /** What each place holds, as the text up to it. */
    const cache = new Map<number, string>();
    const paths = new Map<number, Uint32Array>();
    const given = all.map((): number[] => []);
    let before: readonly Sequence[] = [];
    let drawn = new Map<Sequence, number>();
    for (;;) {
      for (const { slot, places } of schedule.admit()) paths.set(slot, places);
      const step = schedule.next(table);
      if (!step) break;
      const rows = step.sequences.length + step.promptTokens;
      expect(rows).toBeLessThanOrEqual(size.stepRows);
      const seen: { places: number[]; text: number[] }[] = [];
      for (let row = 0; row < rows; row++) {
        const [slot, shared, own, length, token, source] = table.subarray(row * rowWords);
        const sequence = step.sequences[row];
        if (source !== noSource) expect(before[source]).toBe(sequence);
        const places = Array.from({ length }, (_, i) => (i < shared ? paths.get(slot)![i] : own + i - shared));
        const text = sequence
          ? [...all[sequence.index].prompt, ...given[sequence.index]]
          : [...(cache.get(places[length - 2]) ?? '').split(' ').filter(Boolean).map(Number), token];
        if (sequence) expect(source === noSource ? token : drawn.get(sequence)).toBe(text[text.length - 1]);
        expect(text).toHaveLength(length);
        // A prompt's token is written once, an own one over what an ended sequence left.
        cache.set(places[length - 1], text.join(' '));
        seen.push({ places, text });
      }
      for (const { places, text } of seen)
        places.forEach((place, i) => {
          expect(cache.get(place)).toBe(text.slice(0, i + 1).join(' '));
        });
      drawn = new Map(step.sequences.map((sequence) => [sequence, random.below(1000)]));
      for (const [sequence, token] of drawn) {
        given[sequence.index].push(token);
        if (random.below(6) === 0) schedule.end(sequence);
      }
      before = step.sequences;
    }
    expect(schedule.done).toBe(true);
    expect(given.every(({ length }) => length >= 1 && length <= 5)).toBe(true);
    expect(new Set(given.map(({ length }) => length)).size).toBeGreaterThan(1);
  });

  it('keeps all slots going while sequences wait, and computes what prompts share once', () => {
    const size = { slots: 4, promptPlaces: 100, stepRows: 64, maxNewTokens: 6, maxPromptTokens: 9 };
    const prompt = Int32Array.from([1, 2, 3, 4, 5]);
    const schedule = new RolloutSchedule(
      size,
      Array.from({ length: 18 }, (_, seed) => ({ prompt, seed })),
    );
    const table = new Uint32Array(size.stepRows * rowWords);
    const steps = [];
    for (;;) {
      schedule.admit();
      const step = schedule.next(table);
      if (!step) break;
      steps.push(step);
      // Every third sequence ends early, so that slots fall free one by one.
      for (const sequence of step.sequences)
        if (sequence.index % 3 === 0 && sequence.steps === 2) schedule.end(sequence);
    }
    expect(steps.reduce((sum, { promptTokens }) => sum + promptTokens, 0)).toBe(4);
    const total = 6 * 2 + 12 * 6;
    expect(steps.reduce((sum, { sequences }) => sum + sequences.length, 0)).toBe(total);
    expect(steps.slice(0, -5).every(({ sequences }) => sequences.length === 4)).toBe(true);
    expect(steps.length).toBeLessThanOrEqual(total / 4 + 5);
  });
});
