import { alignCommand } from './align.js';
import { benchCommand } from './bench.js';
import { checkAdapterCommand } from './check-adapter.js';
import { dashboardCommand } from './dashboard.js';
import { dataCommand } from './data.js';
import { demoCommand } from './demo.js';
import { doctorCommand } from './doctor.js';
import { evaluateCommand } from './evaluate.js';
import { exportCommand } from './export.js';
import { generateCommand } from './generate.js';
import type { Command } from './main.js';
import { planCommand } from './plan.js';
import { ppoCommand } from './ppo.js';
import { quantizeCommand } from './quantize.js';
import { reportCommand } from './report.js';
import { scoreCommand } from './score.js';
import { sftCommand } from './sft.js';

/** Every command, in the order of --help. */
export const commands: readonly Command[] = [
  demoCommand,
  doctorCommand,
  dataCommand,
  planCommand,
  sftCommand,
  ppoCommand,
  alignCommand,
  generateCommand,
  scoreCommand,
  evaluateCommand,
  dashboardCommand,
  reportCommand,
  quantizeCommand,
  exportCommand,
  checkAdapterCommand,
  benchCommand,
];
