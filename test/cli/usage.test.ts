import { expect, it } from 'vitest';
import { commandLine } from '../../src/cli/usage.js';

it.each([
  ['linux', `npx lexalign report --input a/x.json,b.json --title 'it'\\''s "one"' --output 'C:\\run'`],
  ['win32', `npx lexalign report --input "a/x.json,b.json" --title "it's ""one""" --output C:\\run`],
] as const)('a command is quoted for the shells of %s', (platform, line) => {
  const values = { input: 'a/x.json,b.json', title: 'it\'s "one"', output: 'C:\\run' };
  expect(commandLine(['report'], values, Object.keys(values), { platform })).toBe(line);
});
