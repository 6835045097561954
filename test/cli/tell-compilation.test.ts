import { afterEach, expect, it, vi } from 'vitest';
import { tellCompilation } from '../../src/cli/tell-compilation.js';
import type { KernelCache } from '../../src/gpu/kernels.js';

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** What is said of compilations that end at these times, ms, all asked for at 0. */
function said(ends: readonly number[]): string[] {
  vi.useFakeTimers({ toFake: ['performance'] });
  const lines: string[] = [];
  vi.spyOn(console, 'error').mockImplementation((line) => lines.push(line));
  const kernels: Pick<KernelCache, 'onCompile'> = { onCompile: null };
  tellCompilation(kernels);
  for (let asked = 1; asked <= ends.length; asked++) kernels.onCompile!(0, asked);
  let now = 0;
  ends.forEach((end, i) => {
    vi.advanceTimersByTime(end - now);
    now = end;
    kernels.onCompile!(i + 1, ends.length);
  });
  return lines;
}

it('says nothing of compilations that are over soon', () => {
  expect(said([100, 900, 2900])).toEqual([]);
});

it('says how far long ones are, and how long they took', () => {
  expect(said([2000, 3500, 4000, 9000])).toEqual([
    'compiling kernels for this driver: 2 of 4',
    'compiling kernels for this driver: 3 of 4',
    'Compiled 4 kernels in 9.0 s; most drivers keep them for later runs.',
  ]);
});
