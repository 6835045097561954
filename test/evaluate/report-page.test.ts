import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import type { Chart, ChartSeries } from '../../src/evaluate/report-document.js';
import { pageScript, pageStyle } from '../../src/evaluate/report-page.js';

interface Look {
  readonly borderColor: string;
  readonly backgroundColor: string;
  readonly borderDash: readonly number[];
}

/** What the page's script tells Chart.js of each series, in a scheme's colours; a pattern is told by its strokes. */
function looksOf(type: Chart['type'], series: readonly ChartSeries[], scheme: 'light' | 'dark'): Look[] {
  const charts: Chart[] = [{ type, title: '', x: { title: '', values: [1] }, y: { title: '' }, series }];
  const pen = () => {
    const strokes: string[] = [];
    const step = (x: number, y: number) => strokes.push(`${x},${y}`);
    return {
      strokeStyle: '',
      moveTo: step,
      lineTo: step,
      stroke() {},
      createPattern() {
        return `${this.strokeStyle} ${strokes.join(' ')}`;
      },
    };
  };
  const [light, dark] = pageStyle.split('@media');
  const value = (name: string) => {
    const find = (style: string) => new RegExp(`${name}: ([^;}]+)`).exec(style)?.[1].trim();
    return (scheme === 'dark' && find(dark)) || find(light);
  };
  let looks: Look[] = [];
  class FakeChart {
    constructor(_: unknown, { data }: { data: { datasets: Look[] } }) {
      looks = data.datasets;
    }
  }
  runInNewContext(pageScript, {
    document: {
      getElementById: () => ({ textContent: JSON.stringify(charts) }),
      querySelectorAll: () => [{}],
      createElement: () => ({ getContext: pen }),
      documentElement: { dataset: {} },
    },
    getComputedStyle: () => ({ getPropertyValue: value }),
    matchMedia: () => ({ addEventListener() {} }),
    Chart: FakeChart,
  });
  return looks;
}

describe.each(['light', 'dark'] as const)('the series of a chart, %s', (scheme) => {
  const models = Array.from({ length: 18 }, (_, i) => ({ name: `model ${i}`, values: [i] }));
  const countries = ['USA', 'CHN'].map((name) => ({ name, people: true, values: [1] }));
  const told = ({ borderColor, backgroundColor, borderDash }: Look) =>
    `${borderColor} ${backgroundColor} ${borderDash}`;

  it.each(['line', 'bar'] as const)('look different, up to 18 models in a %s chart', (type) => {
    for (const count of [8, 18]) {
      const looks = looksOf(type, models.slice(0, count), scheme);
      expect(new Set(looks.map(told)).size).toBe(count);
    }
  });

  it('have colours of models, and none of countries', () => {
    const looks = looksOf('bar', [...models.slice(0, 5), ...countries], scheme);
    expect(new Set(looks.map(told)).size).toBe(7);
    const colors = looks.map(({ borderColor }) => borderColor);
    expect(new Set(colors).size).toBe(6);
    expect(colors.slice(5)).toEqual(scheme === 'light' ? ['#1c1f24', '#1c1f24'] : ['#e6e8ec', '#e6e8ec']);
  });
});
