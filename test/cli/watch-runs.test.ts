import { appendFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { Curve, WatchedRun, WatchedRuns } from '../../src/cli/watch-runs.js';
import { writeFileAtomic } from '../../src/formats/files.js';

const root = mkdtempSync(join(tmpdir(), 'lexalign-watch-'));
afterAll(() => rmSync(root, { recursive: true }));
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(root, 'run-'));
});

const line = (step: number, loss = 10 - step) => `${JSON.stringify({ step, loss, seconds: 2, skipped: false })}\n`;
const lossOf = (run: WatchedRun) => [...(run.curves.get('loss')?.points() ?? [])];

describe('metrics.jsonl, as it grows', () => {
  it('gives whole lines alone, each once', async () => {
    const file = join(directory, 'metrics.jsonl');
    const run = new WatchedRun('run', directory);
    await run.update();
    expect([run.step, run.curves.size]).toEqual([0, 0]);
    writeFileSync(file, line(1) + line(2).slice(0, 12));
    await run.update();
    expect(lossOf(run)).toEqual([[1, 9]]);
    appendFileSync(file, line(2).slice(12, -1));
    await run.update();
    expect(run.step).toBe(1);
    appendFileSync(file, `\n${line(3)}`);
    await run.update();
    await run.update();
    expect(lossOf(run)).toEqual([
      [1, 9],
      [2, 8],
      [3, 7],
    ]);
    expect([...run.curves.keys()]).toEqual(['loss', 'seconds']);
    expect([run.step, run.stepSeconds, run.badLines]).toEqual([3, 2, 0]);
  });

  it('is read anew where a resumed run has put another file there, be it longer, or cut it', async () => {
    const file = join(directory, 'metrics.jsonl');
    const run = new WatchedRun('run', directory);
    writeFileSync(file, line(1) + line(2) + line(3));
    await run.update();
    await writeFileAtomic(file, line(1) + line(2, 5) + line(3, 6) + line(4, 7));
    await run.update();
    expect(lossOf(run)).toEqual([
      [1, 9],
      [2, 5],
      [3, 6],
      [4, 7],
    ]);
    truncateSync(file, line(1).length);
    await run.update();
    expect([lossOf(run), run.step]).toEqual([[[1, 9]], 1]);
    rmSync(file);
    await run.update();
    expect([run.step, run.curves.size, run.written]).toEqual([0, 0, 0]);
  });

  it('may hold lines that are none, and far too long ones', async () => {
    const file = join(directory, 'metrics.jsonl');
    const run = new WatchedRun('run', directory);
    const long = JSON.stringify({ step: 3, note: 'x'.repeat(2 ** 19), loss: 1 });
    writeFileSync(file, `${line(1)}nonsense\n[1]\nnull\n{"loss": 2}\n\n{"step": 2, "loss": null}\n${long}\n`);
    await run.update();
    expect(lossOf(run)).toEqual([
      [1, 9],
      [3, 1],
    ]);
    expect([run.badLines, run.step]).toEqual([4, 3]);
    appendFileSync(file, `${'x'.repeat(2 ** 20 + 5)}\n${line(4)}`);
    await run.update();
    expect([run.badLines, run.step]).toEqual([6, 4]);
  });

  it('is not read where it is a link that leads out of the run, or no file', async () => {
    writeFileSync(join(root, 'elsewhere.jsonl'), line(1));
    symlinkSync(join(root, 'elsewhere.jsonl'), join(directory, 'metrics.jsonl'));
    const run = new WatchedRun('run', directory);
    await run.update();
    expect(run.curves.size).toBe(0);
    rmSync(join(directory, 'metrics.jsonl'));
    mkdirSync(join(directory, 'metrics.jsonl'));
    await run.update();
    expect(run.curves.size).toBe(0);
  });
});

it('a curve of 100,000 steps keeps a few hundred points as they were written, the newest among them', () => {
  const curve = new Curve();
  for (let step = 1; step <= 100_000; step++) curve.add(step, Math.sqrt(step));
  const points = [...curve.points()];
  expect(points.length).toBeGreaterThan(400);
  expect(points.length).toBeLessThanOrEqual(800);
  expect(points.every(([step, value]) => value === Math.sqrt(step))).toBe(true);
  expect([points[0][0], points.at(-1)![0], curve.newest]).toEqual([1, 100_000, Math.sqrt(100_000)]);
  // Evenly spread but for the newest.
  const gaps = new Set(points.slice(1, -1).map(([step], i) => step - points[i][0]));
  expect([...gaps]).toEqual([128]);
});

describe('runs below a directory', () => {
  const makeRun = (...path: string[]) => {
    mkdirSync(join(directory, ...path), { recursive: true });
    writeFileSync(join(directory, ...path, 'run.json'), '{"command": "sft"}');
  };

  it('are those with a run.json some levels deep, not behind links, not in runs', async () => {
    const watched = new WatchedRuns(directory);
    await watched.update();
    expect(watched.runs).toEqual([]);
    makeRun('one');
    makeRun('study', 'adapters', 'en.sft');
    makeRun('one', 'checkpoints', 'step-000001');
    makeRun('a', 'b', 'c', 'd', 'e');
    makeRun('.hidden');
    mkdirSync(join(directory, 'data'));
    symlinkSync(join(directory, 'one'), join(directory, 'link'));
    const anew = new WatchedRuns(directory);
    await anew.update();
    expect(anew.runs.map(({ name }) => name)).toEqual(['one', 'study/adapters/en.sft']);
    expect(anew.runs[0].record).toEqual({ command: 'sft' });
    const itself = new WatchedRuns(join(directory, 'one'));
    await itself.update();
    expect(itself.runs.map(({ name }) => name)).toEqual(['.']);
  });

  it('keep what was read of them, and tell a run.json that has changed', async () => {
    makeRun('one');
    writeFileSync(join(directory, 'one', 'metrics.jsonl'), line(1));
    const watched = new WatchedRuns(directory);
    await watched.update();
    const [run] = watched.runs;
    expect(run.step).toBe(1);
    appendFileSync(join(directory, 'one', 'metrics.jsonl'), line(2));
    await writeFileAtomic(join(directory, 'one', 'run.json'), '{"result": {"outcome": "finished"}}');
    await watched.update();
    expect(watched.runs[0]).toBe(run);
    expect([run.step, run.record]).toEqual([2, { result: { outcome: 'finished' } }]);
  });
});
