import { expect, it } from 'vitest';
import { formatSeconds } from '../../src/cli/plan-time.js';

it.each([
  [0.25, '0.25 s'],
  [89, '89 s'],
  [90, '1.5 minutes'],
  [3600, '60 minutes'],
  [7200, '2 hours'],
  [47 * 3600, '47 hours'],
  [5 * 86400, '5 days'],
  [123 * 86400, '120 days'],
])('says %d seconds as %s', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});
