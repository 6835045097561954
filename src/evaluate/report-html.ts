import type { Cell, Chart, ReportBlock, ReportDocument } from './report-document.js';
import { pageScript, pageStyle } from './report-page.js';

/**
 * The report as one HTML file that needs no network: tables, and charts that `chartLibrary` (the text of Chart.js) draws
 * in light or dark, at any width. Everything that comes from data is escaped, and the page may load nothing.
 */
export function toHtml({ title, created, sections }: ReportDocument, chartLibrary: string): string {
  const charts: Chart[] = [];
  const body = sections.map(
    ({ title: heading, blocks }) =>
      `<section>\n<h2>${escapeHtml(heading)}</h2>\n${blocks.map((block) => toBlock(block, charts)).join('\n')}\n</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${escapeHtml(title)}</title>
<style>${pageStyle}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<p class="made">Made ${escapeHtml(created)} by lexalign.</p>
${body.join('\n')}
</main>
<script>${inScript(chartLibrary)}</script>
<script type="application/json" id="charts">${JSON.stringify(charts).replaceAll('<', '\\u003c')}</script>
<script>${inScript(pageScript)}</script>
</body>
</html>
`;
}

function toBlock(block: ReportBlock, charts: Chart[]): string {
  if (block.kind === 'text') return `<p>${escapeHtml(block.text)}</p>`;
  if (block.kind === 'code') return `<pre><code>${escapeHtml(block.text)}</code></pre>`;
  if (block.kind === 'table') {
    const head = block.head.map((name) => `<th>${escapeHtml(name)}</th>`).join('');
    const rows = block.rows.map((row) => `<tr>${row.map(toCell).join('')}</tr>`);
    return `<div class="table"><table><thead><tr>${head}</tr></thead><tbody>\n${rows.join('\n')}\n</tbody></table></div>`;
  }
  charts.push(block.chart);
  const title = escapeHtml(block.chart.title);
  return `<figure><figcaption>${title}</figcaption><div class="chart"><canvas role="img" aria-label="${title}"></canvas></div></figure>`;
}

function toCell(cell: Cell): string {
  if (typeof cell !== 'string') {
    const words = cell.map(({ text, strong }) => (strong ? `<strong>${escapeHtml(text)}</strong>` : escapeHtml(text)));
    return `<td class="words">${words.join(', ')}</td>`;
  }
  return `<td${/^[-+−<]?\d/.test(cell) ? ' class="number"' : ''}>${escapeHtml(cell)}</td>`;
}

function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, (character) => names[character]);
}

/** Script text that cannot end its element. */
export function inScript(text: string): string {
  return text.replace(/<\/script/gi, '<\\/script');
}
