import { doctorCommand } from './doctor.js';
import type { Command } from './main.js';
import { sftCommand } from './sft.js';

/** Every command, in the order of --help. */
export const commands: readonly Command[] = [doctorCommand, sftCommand];
