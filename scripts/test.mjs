/** `npm test`: sets up, then runs vitest on the system's adapter or, where there is none, on the software driver. */
import { join } from 'node:path';
import { load, orFail, root, setUp } from './setup.mjs';

const driver = await orFail(setUp);
const { driverCommand, nodeExecutable, runAttached } = await load('software-driver');
const vitest = [join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', ...process.argv.slice(2)];

if (driver) {
  // Threads: processes that vitest forks would start the loader in node's place.
  const { command, args, env } = driverCommand(driver, [...vitest, '--pool', 'threads']);
  process.exitCode = await runAttached(command, args, { ...env, LEXALIGN_DEVICE: 'cpu' });
} else {
  process.exitCode = await runAttached(nodeExecutable(), vitest, process.env);
}
