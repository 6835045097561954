import type { ReportBlock, ReportSection } from './report-document.js';

/** Lines of a run's metrics.jsonl. */
export type Metrics = readonly Readonly<Record<string, unknown>>[];

/** Curves of a training run: what of these its metrics hold. */
export const curves: readonly { readonly title: string; readonly y: string; readonly keys: readonly string[] }[] = [
  { title: 'loss', y: 'loss', keys: ['loss', 'eval_loss'] },
  { title: 'learning rate', y: 'rate', keys: ['learning_rate', 'lr'] },
  { title: 'score of the rollouts', y: 'score', keys: ['objective/scores'] },
  { title: 'KL from the reference', y: 'nats', keys: ['objective/kl'] },
  { title: 'losses of policy and value', y: 'loss', keys: ['loss/policy_avg', 'loss/value_avg'] },
];
/** Points of a curve at most. */
const mostPoints = 400;

export function trainingSection(name: string, metrics: Metrics): ReportSection {
  const blocks = curves.flatMap(({ title, y, keys }): ReportBlock[] => {
    const own = keys.filter((key) => metrics.some((line) => typeof line[key] === 'number'));
    if (own.length === 0) return [];
    const lines = metrics.filter((line) => own.some((key) => typeof line[key] === 'number'));
    const every = Math.ceil(lines.length / mostPoints);
    const kept = lines.filter(
      (line, i) => i % every === 0 || i === lines.length - 1 || typeof line.eval_loss === 'number',
    );
    const value = (entry: unknown) => (typeof entry === 'number' ? entry : null);
    return [
      {
        kind: 'chart',
        chart: {
          type: 'line',
          title: `${name}: ${title}`,
          x: { title: 'step', values: kept.map(({ step }) => Number(step)) },
          y: { title: y },
          series: own.map((key) => ({ name: key, values: kept.map((line) => value(line[key])) })),
        },
      },
    ];
  });
  return { title: `Training: ${name}`, blocks };
}
