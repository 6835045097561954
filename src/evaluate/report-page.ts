/** Style of the report's page: light and dark by the reader's system, one column that fits a phone. */
export const pageStyle = `
:root { color-scheme: light dark; --back: #ffffff; --text: #1c1f24; --faint: #5d6570; --line: #d9dde3; --panel: #f5f6f8;
  --series: #2563a8, #d1662b, #2e8b57, #8a4fa3, #b8860b, #4a5568; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171c; --text: #e6e8ec; --faint: #9aa3af; --line: #343a44; --panel: #1d2128;
    --series: #7ab3ef, #f0a06c, #78c99a, #c79be0, #e2c065, #a7b0bd; } }
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

/** Draws the charts of the page by Chart.js, and again where the system turns light or dark. */
export const pageScript = `
(() => {
  const charts = JSON.parse(document.getElementById('charts').textContent);
  const canvases = [...document.querySelectorAll('canvas')];
  let drawn = [];
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const datasets = ({ type, series, x }, colors) => series.flatMap(({ name, values, low, high }, i) => {
    const color = colors[i % colors.length];
    const points = (list) => type === 'line' ? list.map((y, at) => ({ x: x.values[at], y })) : list;
    const line = { label: name, data: points(values), borderColor: color, backgroundColor: type === 'bar' ? color : color + '33',
      borderWidth: type === 'bar' ? 0 : 2, pointRadius: values.length > 40 ? 0 : 3, pointBackgroundColor: color, spanGaps: true };
    if (!low || !high) return [line];
    const bound = { borderWidth: 0, pointRadius: 0, backgroundColor: color + '22', band: true };
    return [line, { ...bound, label: name + ' low', data: points(low) }, { ...bound, label: name + ' high', data: points(high), fill: '-1' }];
  });
  const draw = () => {
    for (const chart of drawn) chart.destroy();
    const [text, faint, line] = ['--text', '--faint', '--line'].map(variable);
    const colors = variable('--series').split(',').map((color) => color.trim());
    drawn = charts.map((chart, i) => new Chart(canvases[i], {
      type: chart.type,
      data: { labels: chart.type === 'bar' ? chart.x.values : undefined, datasets: datasets(chart, colors) },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false,
        interaction: { mode: 'index', intersect: false },
        plugins: {
          legend: { labels: { color: text, boxWidth: 14, filter: (item, data) => !data.datasets[item.datasetIndex].band } },
          tooltip: { filter: (item) => !item.dataset.band },
        },
        scales: {
          x: { type: chart.type === 'bar' ? 'category' : 'linear', title: { display: true, text: chart.x.title, color: faint },
            ticks: { color: faint }, grid: { display: false }, border: { color: line } },
          y: { min: chart.y.min, max: chart.y.max, title: { display: true, text: chart.y.title, color: faint },
            ticks: { color: faint }, grid: { color: line }, border: { display: false } },
        },
      },
    }));
  };
  draw();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  document.documentElement.dataset.drawn = String(drawn.length);
})();
`;
