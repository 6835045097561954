import { createHash } from 'node:crypto';
import { inScript } from '../evaluate/report-html.js';
import { chartScript, pageStyle } from '../evaluate/report-page.js';
import { mostChosen } from './dashboard-state.js';

const style = `${pageStyle}
main { max-width: 90rem; }
#charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem; }
figure { min-width: 0; }
.chart { height: 15rem; }
td { white-space: nowrap; }
label { display: flex; gap: .5rem; cursor: pointer; }
`;

/** Asks for the state again and again, and shows it. Texts of files become text nodes, never markup. */
const script = `
(() => {
  const most = ${mostChosen};
  const element = (name, parent) => parent.appendChild(document.createElement(name));
  const [head, body] = ['thead tr', 'tbody'].map((name) => document.querySelector(name));
  const says = document.getElementById('says');
  const grid = document.getElementById('charts');
  let shown = '';
  let state = null;
  let drawn = [];
  const boxes = () => [...body.querySelectorAll('input')];
  /** The choice stands in the address, so that it outlives the page. */
  const choose = () => {
    const chosen = boxes().filter((box) => box.checked).map((box) => ['run', box.value]);
    history.replaceState(null, '', '#' + new URLSearchParams(chosen));
    poll();
  };
  const showRows = ({ head: names, rows }) => {
    if (!head.cells.length) for (const name of names) element('th', head).textContent = name;
    const same = rows.map(({ name }) => name).join('\\n') === boxes().map((box) => box.value).join('\\n');
    if (!same) {
      body.replaceChildren();
      for (const { name, cells } of rows) {
        const row = element('tr', body);
        for (const cell of cells) element('td', row);
        const label = element('label', row.cells[0]);
        const box = element('input', label);
        Object.assign(box, { type: 'checkbox', value: name, onchange: choose });
        element('span', label).textContent = name;
      }
    }
    const full = rows.filter(({ chosen }) => chosen).length >= most;
    rows.forEach(({ chosen, cells }, i) => {
      const row = body.rows[i];
      cells.forEach((cell, at) => { if (at > 0) row.cells[at].textContent = cell; });
      Object.assign(row.querySelector('input'), { checked: chosen, disabled: full && !chosen });
    });
  };
  const showCharts = (charts) => {
    const titles = charts.map(({ title }) => title);
    if (titles.join('\\n') !== drawn.map(({ title }) => title).join('\\n')) {
      for (const { chart } of drawn) chart.destroy();
      grid.replaceChildren();
      drawn = charts.map((chart) => {
        const figure = element('figure', grid);
        element('figcaption', figure).textContent = chart.title;
        const frame = element('div', figure);
        frame.className = 'chart';
        const canvas = element('canvas', frame);
        canvas.setAttribute('role', 'img');
        canvas.setAttribute('aria-label', chart.title);
        return { title: chart.title, chart: new Chart(canvas, chartConfig(chart)) };
      });
    } else {
      charts.forEach((chart, i) => {
        const { data, options } = chartConfig(chart);
        Object.assign(drawn[i].chart, { data, options });
        drawn[i].chart.update();
      });
    }
    document.documentElement.dataset.drawn = String(drawn.length);
  };
  let asked = 0;
  const poll = async () => {
    const own = ++asked;
    try {
      const reply = await fetch('/state?' + location.hash.slice(1));
      const text = await reply.text();
      if (own !== asked) return;
      if (!reply.ok) throw new Error(text);
      if (text !== shown) {
        shown = text;
        state = JSON.parse(text);
        showCharts(state.charts);
      }
      showRows(state);
      says.textContent = state.rows.length > 0 ? '' : 'No runs yet: they appear here once they have begun.';
    } catch (error) {
      if (own !== asked) return;
      says.textContent = 'No answer from lexalign dashboard (' + error.message + '): is it still running?';
    }
  };
  const tick = async () => {
    if (!document.hidden) await poll();
    setTimeout(tick, 1500);
  };
  tick();
  addEventListener('hashchange', poll);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) poll(); });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => state && showCharts(state.charts));
})();
`;

/** The page, and the policy that lets it run its own scripts and ask this server, and nothing else. */
export function dashboardPage(chartLibrary: string): { html: string; policy: string } {
  const scripts = [chartLibrary, `${chartScript}${script}`].map(inScript);
  const digests = (texts: readonly string[]) =>
    texts.map((text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`).join(' ');
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>lexalign: runs</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>Runs</h1>
<p class="made" id="says" role="status"></p>
<div class="table"><table><thead><tr></tr></thead><tbody></tbody></table></div>
<div id="charts"></div>
</main>
${scripts.map((text) => `<script>${text}</script>`).join('\n')}
</body>
</html>
`;
  const policy = [
    "default-src 'none'",
    `script-src ${digests(scripts)}`,
    `style-src ${digests([style])}`,
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; ');
  return { html, policy };
}
