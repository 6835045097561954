import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Dashboard, startDashboard } from '../../src/cli/dashboard.js';
import { type DashboardState, dashboardState } from '../../src/cli/dashboard-state.js';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { WatchedRuns } from '../../src/cli/watch-runs.js';
import { describeInBrowser } from '../browser.js';
import { lexalign, makeWorkplace } from './sft-helpers.js';

const { directory, remove } = makeWorkplace();
const runs = join(directory, 'runs');
/** A name that would break a page that does not escape it. */
const nasty = '<img src=x onerror=alert(1)>';
let dashboard: Dashboard;

const makeRun = (name: string, record: object, lines: readonly object[]) => {
  mkdirSync(join(runs, name), { recursive: true });
  writeFileSync(join(runs, name, 'run.json'), JSON.stringify(record));
  writeFileSync(join(runs, name, 'metrics.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
};
const sftLine = (step: number) => ({
  step,
  epoch: step / 9,
  loss: 3 / step,
  tokens_per_second: 1000,
  seconds: 2,
  x: step,
});
const steps = Array.from({ length: 60 }, (_, i) => i + 1);

beforeAll(async () => {
  const evaluation = { step: 40, epoch: 4, eval_loss: 0.5 };
  makeRun(nasty, { command: 'sft', total_steps: 90 }, [...steps.slice(0, 40).map(sftLine), evaluation]);
  const ppo = (step: number) => ({ step, 'objective/scores': step / 60, 'objective/kl': 0.1, 'seconds/rollout': 3 });
  makeRun('study/ppo', { command: 'ppo', result: { outcome: 'finished' } }, steps.map(ppo));
  makeRun('study/sft', { command: 'sft', total_steps: 60 }, steps.slice(0, 30).map(sftLine));
  // The first wrote last, the others longer ago than any run is silent for.
  const old = new Date(Date.now() - 3600_000);
  for (const name of ['ppo', 'sft'])
    for (const file of ['run.json', 'metrics.jsonl']) utimesSync(join(runs, 'study', name, file), old, old);
  dashboard = await startDashboard(runs, 0);
});
afterAll(async () => {
  await dashboard?.close();
  remove();
});

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
}

/** Asks for a path as it stands, `..` included. */
const ask = (path: string, { method = 'GET', host = 'localhost' } = {}) =>
  new Promise<Reply>((resolve, reject) => {
    const { port } = new URL(dashboard.url);
    const asked = request({ host: '127.0.0.1', port, path, method, headers: { Host: host } }, async (reply) => {
      let text = '';
      for await (const chunk of reply) text += chunk;
      resolve({ status: reply.statusCode!, headers: reply.headers, text });
    });
    asked.on('error', reject);
    asked.end();
  });
const stateOf = async (query = '') => JSON.parse((await ask(`/state${query}`)).text) as DashboardState;

describe('what the dashboard serves', () => {
  it('lists the runs, the one that wrote last first and drawn', async () => {
    const { head, rows, charts } = await stateOf();
    expect(head).toEqual(['run', 'of', 'state', 'step', 'latest', 'tokens/s', 'time to go']);
    expect(rows.map(({ name, chosen }) => [name, chosen])).toEqual([
      [nasty, true],
      ['study/ppo', false],
      ['study/sft', false],
    ]);
    expect(rows.map(({ cells }) => cells.slice(1))).toEqual([
      ['sft', 'running', '40 of 90', 'loss 0.07500, eval_loss 0.5000', '1000', 'about 1.7 minutes'],
      ['ppo', 'finished', '60', 'objective/scores 1.000, objective/kl 0.1000', '', ''],
      ['sft', 'silent for 60 minutes', '30 of 60', 'loss 0.1000', '1000', ''],
    ]);
    // What the file has, the most asked for first; no chart of what is none.
    expect(charts.map(({ title }) => title)).toEqual(['loss', 'tokens_per_second', 'seconds', 'x']);
    const [loss] = charts;
    expect(loss.series.map(({ name, look }) => [name, look])).toEqual([
      ['loss', 0],
      ['eval_loss', 6],
    ]);
    expect(loss.x.values).toEqual(steps.slice(0, 40));
    expect(loss.series[0].values[39]).toBe(0.075);
    expect(loss.series[1].values).toEqual([...new Array(39).fill(null), 0.5]);
  });

  it('lays the chosen runs over each other, each in its colour', async () => {
    const query = new URLSearchParams([nasty, 'study/sft', 'no/such'].map((name) => ['run', name] as [string, string]));
    const { rows, charts } = await stateOf(`?${query}`);
    expect(rows.map(({ chosen }) => chosen)).toEqual([true, false, true]);
    const [loss, rate] = charts;
    expect(loss.series.map(({ name, look }) => [name, look])).toEqual([
      [`${nasty}: loss`, 0],
      [`${nasty}: eval_loss`, 6],
      ['study/sft: loss', 1],
    ]);
    expect(loss.series[2].values).toEqual([
      ...steps.slice(0, 30).map((step) => Number((3 / step).toPrecision(6))),
      ...new Array(10).fill(null),
    ]);
    expect(rate.series.map(({ name, look }) => [name, look])).toEqual([
      [nasty, 0],
      ['study/sft', 1],
    ]);
  });

  it('tells a run that is silent by how long its steps take', async () => {
    const watched = new WatchedRuns(runs);
    await watched.update();
    const stateAfter = (seconds: number) =>
      dashboardState(watched.runs, [], watched.runs[0].written + 1000 * seconds).rows[0].cells[2];
    expect([stateAfter(100), stateAfter(150)]).toEqual(['running', 'silent for 2.5 minutes']);
    Object.assign(watched.runs[0], { step: 0 });
    expect([stateAfter(800), stateAfter(1000)]).toEqual(['running', 'silent for 17 minutes']);
  });

  it('refuses other names of hosts, other methods and other paths', async () => {
    for (const host of ['localhost:9000', '127.0.0.1', '[::1]:1']) expect((await ask('/', { host })).status).toBe(200);
    for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example:80', '192.168.0.7'])
      for (const path of ['/', '/state']) expect((await ask(path, { host })).status, host).toBe(403);
    for (const method of ['POST', 'PUT', 'DELETE', 'HEAD']) expect((await ask('/state', { method })).status).toBe(405);
    for (const path of ['/no', '/study/sft/run.json', '/../runs/study/sft/run.json', '/%2e%2e/package.json', '//', '*'])
      expect((await ask(path)).status, path).toBe(404);
    const outside = encodeURIComponent('../runs/study/sft');
    expect((await stateOf(`?run=${outside}`)).rows.filter(({ chosen }) => chosen)).toHaveLength(1);
    expect((await stateOf(`?run=${outside}`)).charts).toEqual((await stateOf()).charts);
  });

  it('lets the page load nothing and run only its own scripts', async () => {
    const { headers, text } = await ask('/');
    const policy = String(headers['content-security-policy']);
    expect(policy).toMatch(/^default-src 'none'; script-src 'sha256-\S+ 'sha256-\S+; style-src 'sha256-/);
    expect(policy).not.toContain('unsafe');
    expect(text).not.toMatch(/https?:\/\/(?!www\.chartjs\.org|www\.w3\.org|github\.com)/);
  });
});

describe('lexalign dashboard', () => {
  it.each<[1 | 2, RegExp, string[]]>([
    [1, /^lexalign: --runs \S*nowhere does not exist$/, ['--runs', join(directory, 'nowhere')]],
    [1, /--runs .*run\.json is a file: name the directory/, ['--runs', join(runs, 'study/sft/run.json')]],
    [2, /--port must be a whole number from 0 to 65535/, ['--runs', runs, '--port', '70000']],
    [2, /runs/, []],
  ])('exits %i: %s', async (code, sentence, args) => {
    const { code: ended, stderr } = await lexalign('dashboard', ...args);
    expect(stderr).toMatch(sentence);
    expect(ended).toBe(code);
  });

  it('says that a port is taken', async () => {
    const { port } = new URL(dashboard.url);
    const { code, stderr } = await lexalign('dashboard', '--runs', runs, '--port', port);
    expect(stderr).toBe(`lexalign: --port ${port} is taken: name another one, or 0 for any that is free.`);
    expect(code).toBe(1);
  });

  it('serves a directory without runs too, until Ctrl-C', async ({ skip }) => {
    if (!existsSync(join(import.meta.dirname, '../../dist/src/cli/main.js'))) skip('not built: run npm test');
    mkdirSync(join(directory, 'empty'));
    const launcher = join(import.meta.dirname, '../../bin/lexalign.mjs');
    const args = [launcher, 'dashboard', '--runs', join(directory, 'empty'), '--port', '0'];
    const child = spawn(nodeExecutable(), args, { env: { ...process.env, LEXALIGN_RELAUNCHED_BY: '' } });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    let said = '';
    for await (const chunk of child.stdout) {
      said += chunk;
      if (said.includes('\n')) break;
    }
    expect(said).toMatch(/^There are no runs in .*empty yet; .* Curves: http:\/\/127\.0\.0\.1:\d+\/ /);
    // A connection that stays open must not keep it from ending.
    const reply = await fetch(`${/http\S+/.exec(said)![0]}state`);
    expect(await reply.json()).toMatchObject({ rows: [], charts: [] });
    child.kill('SIGINT');
    expect(await ended).toBe(0);
  });
});

describeInBrowser('the dashboard', directory, (inBrowser) => {
  const { problems } = inBrowser;
  const open = (width: number, colorScheme: 'light' | 'dark') => inBrowser(dashboard.url, width, colorScheme);
  const pixels = (page: Page) => page.evaluate("document.querySelector('canvas').toDataURL()");
  const row = (page: Page, i: number) => page.evaluate(`document.querySelectorAll('tbody tr')[${i}].innerText`);

  it.each([
    [1200, 'light'],
    [390, 'dark'],
  ] as const)('at %i pixels, %s: draws every chart, none wider than the page', async (width, scheme) => {
    const page = await open(width, scheme);
    const painted = await page.evaluate(`[...document.querySelectorAll('canvas')].map((canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const colors = new Set();
      for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colors.add(data.slice(i, i + 3).join());
      return colors.size > 3 && canvas.getBoundingClientRect().width > 300;
    })`);
    expect(painted).toEqual([true, true, true, true]);
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
    const back = await page.evaluate('getComputedStyle(document.body).backgroundColor');
    expect(back).toBe(scheme === 'light' ? 'rgb(255, 255, 255)' : 'rgb(20, 23, 28)');
    // The run's name is text.
    expect(await page.evaluate("document.querySelectorAll('img').length")).toBe(0);
    expect(await row(page, 0)).toMatch(/<img .*>\s+sft\s+running\s+40 of 90\s+loss/);
    // A column has its name above it.
    const lefts = (cells: string) =>
      page.evaluate(`[...document.querySelectorAll('${cells}')].map((cell) => cell.getBoundingClientRect().left)`);
    expect(await lefts('th')).toHaveLength(7);
    expect(await lefts('th')).toEqual(await lefts('tbody tr:first-child td'));
    if (process.env.REPORT_SCREENSHOTS)
      await page.screenshot({ path: join(process.env.REPORT_SCREENSHOTS, `dashboard-${width}.png`), fullPage: true });
    await page.close();
    expect(problems).toEqual([]);
  });

  it('shows a step soon after it was written, and a run that has begun', async () => {
    const page = await open(1200, 'light');
    const before = await pixels(page);
    expect(await row(page, 0)).toContain('40 of 90');
    appendFileSync(join(runs, nasty, 'metrics.jsonl'), `${JSON.stringify({ ...sftLine(41), loss: 2.5 })}\n`);
    await expect.poll(() => row(page, 0), { timeout: 60_000 }).toContain('41 of 90');
    expect(await row(page, 0)).toContain('loss 2.500');
    expect(await pixels(page)).not.toBe(before);
    makeRun('newer', { command: 'sft' }, steps.slice(0, 5).map(sftLine));
    await expect.poll(() => row(page, 0), { timeout: 60_000 }).toContain('newer');
    await page.close();
    expect(problems).toEqual([]);
  });

  it('lays runs over each other as they are ticked, and keeps the choice in its address', async () => {
    const page = await open(1200, 'light');
    const ticked = () => page.evaluate("[...document.querySelectorAll('input:checked')].map((box) => box.value)");
    const titles = () => page.evaluate("[...document.querySelectorAll('figcaption')].map((each) => each.innerText)");
    await page.click('input[value="study/ppo"]');
    await expect.poll(titles, { timeout: 60_000 }).toContain('score of the rollouts');
    expect(await titles()).toContain('loss');
    const both = await ticked();
    expect(both).toHaveLength(2);
    await page.reload();
    await page.waitForSelector('html[data-drawn]', { state: 'attached' });
    expect(await ticked()).toEqual(both);
    await page.emulateMedia({ colorScheme: 'light' });
    const light = await pixels(page);
    await page.emulateMedia({ colorScheme: 'dark' });
    await expect.poll(() => pixels(page), { timeout: 60_000 }).not.toBe(light);
    await page.close();
    expect(problems).toEqual([]);
  });
});
