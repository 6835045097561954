import { stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { ArgumentsCamelCase, InferredOptionTypes, Options } from 'yargs';
import { InputError, UsageError } from '../errors.js';
import { explainFileError } from '../formats/files.js';
import { dashboardPage } from './dashboard-page.js';
import { dashboardState } from './dashboard-state.js';
import { onInterrupt } from './interrupt.js';
import type { Command } from './main.js';
import { readChartLibrary } from './report.js';
import { WatchedRuns } from './watch-runs.js';

const options = {
  runs: { type: 'string', demandOption: true, describe: 'Directory of a run, or one with runs inside' },
  port: { type: 'number', default: 8765, describe: 'Port of 127.0.0.1 to answer at; 0: any that is free' },
} as const satisfies Record<string, Options>;
type Arguments = ArgumentsCamelCase<InferredOptionTypes<typeof options>>;

export const dashboardCommand: Command = {
  command: 'dashboard',
  describe: 'Show the curves of runs on a local page while they train',
  options,
  computes: false,
  run: async (args) => {
    const { runs, port } = args as unknown as Arguments;
    if (!Number.isInteger(port) || port < 0 || port > 65535)
      throw new UsageError('--port must be a whole number from 0 to 65535.');
    const info = await stat(runs).catch((error) => explainFileError(`--runs ${runs}`, error));
    if (!info.isDirectory()) throw new InputError(`--runs ${runs} is a file: name the directory that it is in.`);
    const dashboard = await startDashboard(runs, port);
    console.log(`${await dashboard.describe()} Curves: ${dashboard.url} (Ctrl-C ends this page, not the runs)`);
    await new Promise<void>((resolve) => {
      const interrupt = onInterrupt(() => {
        interrupt.remove();
        resolve();
      });
    });
    await dashboard.close();
    return 0;
  },
};

export interface Dashboard {
  readonly url: string;
  /** Which runs there are, in a sentence. */
  describe(): Promise<string>;
  close(): Promise<void>;
}

/**
 * Serves two things at 127.0.0.1: the page at /, and what it shows at /state?run=NAME&run=…, where a NAME only chooses
 * among the runs that were found. Throws InputError where the port cannot be had.
 */
export async function startDashboard(directory: string, port: number): Promise<Dashboard> {
  const watched = new WatchedRuns(directory);
  const { html, policy } = dashboardPage(await readChartLibrary());
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const say = (status: number, type: string, text: string) => {
      const zipped = /\bgzip\b/.test(String(request.headers['accept-encoding']));
      response.writeHead(status, {
        'Content-Type': `${type}; charset=utf-8`,
        'Content-Security-Policy': policy,
        'Cross-Origin-Resource-Policy': 'same-origin',
        'X-Content-Type-Options': 'nosniff',
        'Cache-Control': 'no-store',
        ...(zipped ? { 'Content-Encoding': 'gzip' } : {}),
        ...(status === 405 ? { Allow: 'GET' } : {}),
      });
      response.end(zipped ? gzipSync(text) : text);
    };
    // A page of elsewhere whose name was made to lead here (DNS rebinding) still asks by that name.
    if (!/^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i.test(request.headers.host ?? ''))
      return say(403, 'text/plain', 'Ask by the name localhost or 127.0.0.1.');
    if (request.method !== 'GET') return say(405, 'text/plain', 'Only GET.');
    const [path, query = ''] = (request.url ?? '').split('?', 2);
    if (path === '/') return say(200, 'text/html', html);
    if (path !== '/state') return say(404, 'text/plain', 'Nothing is here.');
    await watched.update();
    const state = dashboardState(watched.runs, new URLSearchParams(query).getAll('run'));
    say(200, 'application/json', JSON.stringify(state));
  };
  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      response.writeHead(500, { 'Content-Type': 'text/plain; charset=utf-8' });
      response.end(`The runs cannot be read: ${(error as Error).message}`);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = { EADDRINUSE: 'is taken', EACCES: 'is not yours to use' }[error.code ?? ''];
      reject(why ? new InputError(`--port ${port} ${why}: name another one, or 0 for any that is free.`) : error);
    });
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    async describe() {
      await watched.update();
      const count = watched.runs.length;
      if (count === 0) return `There are no runs in ${directory} yet; they are shown once they begin.`;
      return `${count} ${count === 1 ? 'run' : 'runs'} in ${directory}.`;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
