import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { commands } from '../../src/cli/registry.js';
import { nodeExecutable } from '../../src/cli/software-driver.js';
import { expectRefusal, root } from './run.js';
import { lexalign } from './sft-helpers.js';

afterEach(() => void vi.unstubAllEnvs());

describe('lexalign', () => {
  it('tells its own version as a dependency of another package', () => {
    const directory = mkdtempSync(join(tmpdir(), 'lexalign-main-'));
    const packages = join(directory, 'node_modules');
    writeFileSync(join(directory, 'package.json'), '{"name": "other", "version": "9.9.9"}');
    mkdirSync(join(packages, 'lexalign'), { recursive: true });
    for (const name of ['bin', 'dist', 'kernels', 'package.json'])
      symlinkSync(join(root, name), join(packages, 'lexalign', name));
    for (const name of readdirSync(join(root, 'node_modules')))
      symlinkSync(join(root, 'node_modules', name), join(packages, name));
    const launcher = join(packages, 'lexalign', 'bin', 'lexalign.mjs');
    const links = ['--preserve-symlinks', '--preserve-symlinks-main'];
    const shown = execFileSync(nodeExecutable(), [...links, launcher, '--version'], { cwd: directory });
    rmSync(directory, { recursive: true });
    expect(shown.toString().trim()).toBe(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version);
  });

  it('breaks the lines of its help between words', async () => {
    const words = new Set(commands.flatMap(({ describe }) => describe.split(/\s+/)));
    const { stdout } = await lexalign('--help');
    const table = stdout.slice(stdout.indexOf('Commands:'), stdout.indexOf('Options:'));
    const shown = table.split(/\s+/).filter(Boolean);
    expect(shown.length).toBeGreaterThan(words.size);
    for (const word of words) expect(shown).toContain(word);
  });

  it('speaks English on every system', async () => {
    vi.stubEnv('LC_ALL', 'de_DE.UTF-8');
    await expectRefusal(['sft', '--dat', 'x'], 2, /There is no option or argument dat here\. Did you mean --data\?/);
    await expectRefusal(['generate', '--tier', 'f61'], 2, /--tier "f61" is none of/);
  });

  it.each(['evaluate', 'data', 'check-adapter', 'bench'])('%s says which argument it lacks', (name) =>
    expectRefusal([name], 2, new RegExp(`lexalign: ${name} needs a <\\w+>: see lexalign ${name} --help\\.$`)),
  );

  it('takes one value of an option that stands for one, and drops none', async () => {
    const twice = (command: string, option: string) => [command, `--${option}`, 'a', `--${option}`, 'b'];
    const told = (option: string) => new RegExp(`--${option} was given more than once: give it once`);
    await expectRefusal([...twice('report', 'input'), '--output', 'c'], 2, told('input'));
    await expectRefusal([...twice('sft', 'data'), '--output', 'c'], 2, told('data'));
    await expectRefusal([...twice('generate', 'adapter'), '--prompt', 'c'], 2, told('adapter'));
  });

  it.each([['--json'], ['--json', '-'], ['--json=-'], ['--json', '--lora-r', '8']])(
    'prints the result for %j %j',
    async (...words) => {
      const { code, stdout, stderr } = await lexalign('plan', ...words);
      expect(code, stderr).toBe(0);
      expect(JSON.parse(stdout)).toHaveProperty('memory');
    },
  );

  it('says that a command is none', () =>
    expectRefusal(['stf'], 2, /^lexalign: There is no such command\. Did you mean sft\?$/));

  it('says what is wrong in one line, also where it quotes several', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'lexalign-main-'));
    writeFileSync(join(directory, 'adapter_config.json'), 'x\ny\n');
    const { code, stderr } = await lexalign('check-adapter', directory);
    rmSync(directory, { recursive: true });
    expect(stderr.split('\n')).toEqual([expect.stringMatching(/adapter_config\.json is not JSON: .*"x y "/)]);
    expect(code).toBe(1);
  });

  it('quotes of a file nothing that a terminal obeys, and of a long key its ends', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'lexalign-main-'));
    const adapter = (config: object) => {
      writeFileSync(join(directory, 'adapter_config.json'), JSON.stringify({ peft_type: 'LORA', ...config }));
      return lexalign('generate', '--adapter', directory, '--prompt-ids', '1');
    };
    const obeyed = await adapter({ rank_pattern: { '\u001b]0;owned\u0007\u009b2J': 0 } });
    expect(obeyed.stderr).toContain('rank_pattern gives \ufffd]0;owned\ufffd\ufffd2J 0, not a positive integer');
    const long = await adapter({ rank_pattern: { [`a${'b'.repeat(1e6)}`]: 0 } });
    expect(long.stderr).toMatch(/rank_pattern gives ab+ \[…\] b+ 0, not a positive integer/);
    expect(long.stderr.length).toBeLessThan(5000);
    rmSync(directory, { recursive: true });
  });

  it('gives a slow reader all of its output', async ({ skip }) => {
    if (!existsSync(join(root, 'dist/src/cli/main.js'))) skip('not built: run npm test');
    const directory = mkdtempSync(join(tmpdir(), 'lexalign-main-'));
    writeFileSync(join(directory, 'run.json'), '{"command": "sft", "options": {}}');
    const metrics = Array.from({ length: 9000 }, (_, i) => `${JSON.stringify({ step: i + 1, loss: 1 / (i + 1) })}\n`);
    writeFileSync(join(directory, 'metrics.jsonl'), metrics.join(''));
    const args = ['report', '--input', directory, '--output', join(directory, 'report'), '--json', '-'];
    const child = spawn(nodeExecutable(), [join(root, 'bin', 'lexalign.mjs'), ...args]);
    await once(child.stdout, 'readable'); // but nothing is read until the command would have ended
    await Promise.race([once(child, 'exit'), new Promise((resolve) => setTimeout(resolve, 2000))]);
    const text = await child.stdout.setEncoding('utf8').reduce((all: string, part: string) => all + part, '');
    rmSync(directory, { recursive: true });
    expect(text.length).toBeGreaterThan(500_000);
    expect(JSON.parse(text).inputs).toHaveLength(1);
  });

  it('ends by 141 where Windows calls a reader that went away EOF', async () => {
    await lexalign('--help');
    const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
    expect(() => process.stdout.emit('error', Object.assign(new Error('write EOF'), { code: 'EOF' }))).toThrow();
    const codes = exit.mock.calls.flat();
    exit.mockRestore();
    expect(codes).toEqual([141]);
  });

  it('names an argument without dashes', () =>
    expectRefusal(['evaluate', 'asociation'], 2, /^lexalign: measure "asociation" is none of "association"/));
});
