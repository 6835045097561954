/**
 * Style of the report's page: light and dark by the reader's system, one column that fits a phone. The colours of models are
 * those of Okabe and Ito (2008) without black and yellow, told apart by colour-blind readers too.
 */
export const pageStyle = `
:root { color-scheme: light dark; --back: #ffffff; --text: #1c1f24; --faint: #5d6570; --line: #d9dde3; --panel: #f5f6f8;
  --series: #0072b2, #d55e00, #009e73, #cc79a7, #e69f00, #56b4e9; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171c; --text: #e6e8ec; --faint: #9aa3af; --line: #343a44; --panel: #1d2128; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
.made { color: var(--faint); margin: .25rem 0 0; }
.table { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; min-width: 50%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.words { min-width: 11rem; }
.words strong { color: var(--text); background: var(--panel); }
figure { margin: 1.25rem 0; }
figcaption { font-weight: 600; margin-bottom: .4rem; }
.chart { position: relative; width: 100%; height: 19rem; }
pre { background: var(--panel); padding: .75rem; overflow-x: auto; font-size: .85rem; }
`;

/** `chartConfig` makes of a `Chart` (report-document.ts) what Chart.js takes, in the colours of the page. */
export const chartScript = `
const chartConfig = (() => {
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  /** Stripes of a colour, rising (turn 1) or falling (turn 2). */
  const hatch = (color, turn) => {
    const tile = document.createElement('canvas');
    tile.width = tile.height = 8;
    const pen = tile.getContext('2d');
    pen.strokeStyle = color;
    pen.lineWidth = 2.5;
    for (const at of [-8, 0, 8]) {
      pen.moveTo(at, turn === 1 ? 8 : 0);
      pen.lineTo(at + 8, turn === 1 ? 0 : 8);
    }
    pen.stroke();
    return pen.createPattern(tile, 'repeat');
  };
  /** How the models' ith series looks: every colour plain, then dashed or hatched in one way, then in another. */
  const modelLook = (i, bars, colors) => {
    const color = colors[i % colors.length];
    const turn = Math.floor(i / colors.length) % 3;
    if (!bars) return { borderColor: color, backgroundColor: color + '33', borderDash: [[], [8, 4], [2, 3]][turn] };
    return { borderColor: color, backgroundColor: turn === 0 ? color : hatch(color, turn), borderDash: [] };
  };
  /** How people's ith series looks: without colour, the first filled, the second hollow. */
  const peopleLook = (i, text) => ({ borderColor: text, backgroundColor: i % 2 === 0 ? text : 'transparent', borderDash: [] });
  const datasets = ({ type, series, x }, colors, text) => {
    const bars = type === 'bar';
    const counts = { people: 0, models: 0 };
    return series.flatMap(({ name, people, look: own, values, low, high }) => {
      const look = people ? peopleLook(counts.people++, text) : modelLook(own ?? counts.models++, bars, colors);
      const dots = values.filter((value) => value !== null).length <= 40;
      const points = (list) => bars ? list : list.map((y, at) => ({ x: x.values[at], y }));
      const line = { label: name, data: points(values), ...look, borderWidth: bars ? 1.5 : 2, pointRadius: dots ? 3 : 0,
        pointBackgroundColor: look.borderColor, spanGaps: true };
      if (!low || !high) return [line];
      const bound = { borderWidth: 0, pointRadius: 0, backgroundColor: look.borderColor + '22', band: true };
      return [line, { ...bound, label: name + ' low', data: points(low) }, { ...bound, label: name + ' high', data: points(high), fill: '-1' }];
    });
  };
  return (chart) => {
    const [text, faint, line] = ['--text', '--faint', '--line'].map(variable);
    const colors = variable('--series').split(',').map((color) => color.trim());
    return {
      type: chart.type,
      data: { labels: chart.type === 'bar' ? chart.x.values : undefined, datasets: datasets(chart, colors, text) },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false,
        interaction: { mode: 'index', intersect: false },
        plugins: {
          legend: { labels: { color: text, boxWidth: 24, filter: (item, data) => !data.datasets[item.datasetIndex].band } },
          tooltip: { filter: (item) => !item.dataset.band },
        },
        scales: {
          x: { type: chart.type === 'bar' ? 'category' : 'linear', title: { display: true, text: chart.x.title, color: faint },
            ticks: { color: faint }, grid: { display: false }, border: { color: line } },
          y: { min: chart.y.min, max: chart.y.max, title: { display: true, text: chart.y.title, color: faint },
            ticks: { color: faint }, grid: { color: line }, border: { display: false } },
        },
      },
    };
  };
})();
`;

/** Draws the charts of the report by Chart.js, and again where the system turns light or dark. */
export const pageScript = `${chartScript}
(() => {
  const charts = JSON.parse(document.getElementById('charts').textContent);
  const canvases = [...document.querySelectorAll('canvas')];
  let drawn = [];
  const draw = () => {
    for (const chart of drawn) chart.destroy();
    drawn = charts.map((chart, i) => new Chart(canvases[i], chartConfig(chart)));
  };
  draw();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  document.documentElement.dataset.drawn = String(drawn.length);
})();
`;
