import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { lexalign } from './sft-helpers.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `lexalign …` as a user does: plain node, and the launcher finds its device itself. */
export function runCli(...args: readonly string[]): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const { LEXALIGN_RELAUNCHED_BY: _, ...env } = process.env;
    const child = spawn(nodeExecutable(), [join(root, 'bin', 'lexalign.mjs'), ...args], { cwd: root, env });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (data) => out.push(data));
    child.stderr.on('data', (data) => err.push(data));
    child.on('error', reject);
    child.on('close', (code) => {
      resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
    });
  });
}

/** Runs a command in this process that must be refused before any device is opened, in one sentence. */
export async function expectRefusal(args: readonly string[], code: 1 | 2, sentence: RegExp): Promise<void> {
  const result = await lexalign(...args);
  expect(result.stderr).toMatch(sentence);
  expect(
    result.stderr
      .trim()
      .split('\n')
      .filter((line) => line.startsWith('lexalign: ')),
  ).toHaveLength(1);
  expect(`${result.stdout}${result.stderr}`).not.toMatch(/Device:|^\s+at /m);
  expect(result.code).toBe(code);
}
