import { curves } from '../evaluate/report-curves.js';
import type { Chart, ChartSeries } from '../evaluate/report-document.js';
import { formatSeconds } from './plan-time.js';
import type { WatchedRun } from './watch-runs.js';

/** What the dashboard's page shows. */
export interface DashboardState {
  readonly head: readonly string[];
  /** A row a run, in cells as they are shown; the newest run first. */
  readonly rows: readonly { readonly name: string; readonly chosen: boolean; readonly cells: readonly string[] }[];
  readonly charts: readonly Chart[];
}

/** Runs laid over each other at most: as many as the page has colours. */
export const mostChosen = 6;
/** Metrics in one chart each, what people ask for first; others follow in the order of the file. */
const asked = [
  ...curves.map(({ keys }) => keys),
  ['grad_norm', 'policy_grad_norm', 'critic_grad_norm'],
  ['tokens_per_second'],
  ['policy/entropy_avg'],
  ['policy/clipfrac_avg', 'val/clipfrac_avg'],
];
const latest = ['loss', 'eval_loss', 'objective/scores', 'objective/kl'];
/** Where on the x axis a line stands, no measure. */
const places = ['epoch', 'episode'];

/** Draws the runs named in `wanted`, or the one that wrote last where none of those is there. `now`: ms since 1970. */
export function dashboardState(
  runs: readonly WatchedRun[],
  wanted: readonly string[],
  now = Date.now(),
): DashboardState {
  const newest = [...runs].sort((a, b) => b.written - a.written);
  const named = newest.filter(({ name }) => wanted.includes(name));
  const chosen = (named.length > 0 ? named : newest.slice(0, 1)).slice(0, mostChosen);
  return {
    head: ['run', 'of', 'state', 'step', 'latest', 'tokens/s', 'time to go'],
    rows: newest.map((run) => ({ name: run.name, chosen: chosen.includes(run), cells: describeRun(run, now) })),
    charts: chartsOf(chosen),
  };
}

function describeRun(run: WatchedRun, now: number): string[] {
  const { name, record, step, curves: measured, badLines, stepSeconds, written } = run;
  const { outcome } = (record.result ?? {}) as { outcome?: unknown };
  const total = typeof record.total_steps === 'number' ? record.total_steps : null;
  // A step that takes ten times as long as those before is none; the first one compiles kernels.
  const patience = 1000 * Math.max(120, step > 0 ? 10 * stepSeconds || 0 : 900);
  const quiet = now - written;
  const running = typeof outcome !== 'string' && quiet < patience;
  const state =
    typeof outcome === 'string' ? outcome : running ? 'running' : `silent for ${formatSeconds(quiet / 1000)}`;
  const value = (key: string) => measured.get(key)?.newest;
  const togo = running && total !== null ? (total - step) * stepSeconds : Number.NaN;
  const values = latest.filter((key) => value(key) !== undefined).map((key) => `${key} ${value(key)!.toPrecision(4)}`);
  if (badLines > 0) values.push(`(${badLines} lines of metrics.jsonl cannot be read)`);
  return [
    name,
    typeof record.command === 'string' ? record.command : '',
    state,
    total === null ? `${step}` : `${step} of ${total}`,
    values.join(', '),
    value('tokens_per_second')?.toFixed(0) ?? '',
    Number.isFinite(togo) ? `about ${formatSeconds(togo)}` : '',
  ];
}

function chartsOf(runs: readonly WatchedRun[]): Chart[] {
  const present = new Set(runs.flatMap((run) => [...run.curves.keys()]));
  const known = new Set([...asked.flat(), ...places]);
  const groups = [...asked, ...[...present].filter((key) => !known.has(key)).map((key) => [key])];
  return groups.flatMap((group): Chart[] => {
    const keys = group.filter((key) => present.has(key));
    if (keys.length === 0) return [];
    const lines = runs.flatMap(({ name, curves: measured }, i) =>
      keys.flatMap((key, j) => {
        const points = measured.get(key)?.points();
        const label = [runs.length > 1 ? name : '', runs.length === 1 || keys.length > 1 ? key : ''];
        // A run has a colour, and of it a stroke a metric.
        return points ? [{ name: label.filter(Boolean).join(': '), look: i + mostChosen * j, points }] : [];
      }),
    );
    const steps = [...new Set(lines.flatMap(({ points }) => [...points.keys()]))].sort((a, b) => a - b);
    const series = lines.map(
      ({ name, look, points }): ChartSeries => ({
        name,
        look,
        values: steps.map((step) => (points.has(step) ? Number(points.get(step)!.toPrecision(6)) : null)),
      }),
    );
    const { title, y } = curves.find((curve) => curve.keys === group) ?? { title: keys.join(', '), y: '' };
    return [{ type: 'line', title, x: { title: 'step', values: steps }, y: { title: y }, series }];
  });
}
