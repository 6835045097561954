// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are placeholders of the preprocessor
import { describe, expect, it } from 'vitest';
import { type Defines, evaluate, specialise } from '../../src/gpu/shader.js';

const files: Record<string, string> = {
  'a.wgsl': 'a ${N}\n#include "b.wgsl"',
  'b.wgsl': 'b\n#if N > 2\nbig\n#endif',
  'open.wgsl': '#if N\nx',
  'stray.wgsl': 'x\n#endif\ny',
};

function lines(source: string[], defines: Defines = {}): string[] {
  return specialise(source.join('\n'), defines, (name) => files[name]).split('\n');
}

describe('specialise', () => {
  it('replaces expressions in a line and leaves the rest alone', () => {
    expect(lines(['array<${TYPE}, ${2 * N}>; // a % b', '  x#if'], { TYPE: 'vec4f', N: 8 })).toEqual([
      'array<vec4f, 16>; // a % b',
      '  x#if',
    ]);
  });

  it.each([
    [1, ['one']],
    [2, ['two']],
    [3, ['else']],
  ])('takes the first branch that holds: %i', (n, expected) => {
    const source = ['#if N == 1', 'one', '#elif N == 2', 'two', '#elif N == 2', 'again', '#else', 'else', '#endif'];
    expect(lines(source, { N: n })).toEqual(expected);
  });

  it('nests branches and loops, and evaluates nothing in dead ones', () => {
    const source = [
      '#for i in 0..N',
      '#for j in i..N',
      '#if i == j',
      'd${i}',
      '#else',
      '  #if i + j == 2',
      'm${i}${j} ${i == 0 ? "first" : 2}'.replaceAll('"', "'"),
      '  #endif',
      '#endif',
      '#endfor',
      '#endfor',
      '#if 0',
      '#for k in 0..UNKNOWN',
      '${UNKNOWN}',
      '#include "missing.wgsl"',
      '#if UNKNOWN',
      '#else',
      '#endif',
      '#endfor',
      '#endif',
      'end',
    ];
    expect(lines(source, { N: 3 })).toEqual(['d0', 'm02 first', 'd1', 'd2', 'end']);
  });

  it('runs a loop with bounds that are expressions, none when they meet', () => {
    expect(lines(['#for s in 0..1 + LORA', '${s}', '#endfor'], { LORA: 1 })).toEqual(['0', '1']);
    expect(lines(['#for s in 2..N', '${s}', '#endfor', 'x'], { N: 2 })).toEqual(['x']);
  });

  it('includes files, which include others and see the same names', () => {
    expect(lines(['#include "a.wgsl"', 'c'], { N: 3 })).toEqual(['a 3', 'b', 'big', 'c']);
  });

  it('enables f16 exactly where the result names it', () => {
    expect(lines(['x: ${T}'], { T: 'f16' })).toEqual(['enable f16;', 'x: f16']);
    expect(lines(['#if 0', 'f16', '#endif', 'f16x'], {})).toEqual(['f16x']);
  });

  it.each([
    [['x', '#endif'], 'unmatched #endif in line 2'],
    [['#else'], 'unmatched #else in line 1'],
    [['#if 1', 'x'], '#if of line 1 is not closed'],
    [['#if 0', 'x', '#else'], '#if of line 1 is not closed'],
    [['#for i in 0..2', 'x'], '#for of line 1 is not closed'],
    [['#for i in 0..2', 'x', '#endif'], '#for of line 1 is not closed'],
    [['#if 1', 'x', '#endfor', '#endif'], '#endfor of line 3 closes the #if of line 1'],
    [['#for i of 0..2', '#endfor'], 'bad #for in line 1'],
    [['#include "stray.wgsl"'], 'unmatched #endif in line 2'],
    [['#include "open.wgsl"'], '#if of line 1 is not closed'],
    [['${MISSING}'], 'unknown name MISSING in "MISSING"'],
  ])('refuses %j', (source, message) => {
    expect(() => lines(source, { N: 1 })).toThrow(`shader: ${message}`);
  });
});

describe('evaluate', () => {
  const scope = new Map<string, number | string>([
    ['N', 12],
    ['T', 'f16'],
    ['zero', 0],
  ]);

  it.each([
    ['1 + 2 * 3', 7],
    ['(1 + 2) * 3', 9],
    ['N - 5 - 4', 3],
    ['N / 4 / 3', 1],
    ['N % 5', 2],
    ['-N + 1', -11],
    ['1.5 * 2', 3],
    ['N >= 12 && N < 13', 1],
    ['N <= 11 || N != 12', 0],
    ['1 || 0 && 0', 1],
    ['!zero', 1],
    ['!(N > 1)', 0],
    ["T == 'f16'", 1],
    ["T != 'f32' && N == 12", 1],
    ["'vec4<' + T + '>'", 'vec4<f16>'],
    ["N > 1 ? 'a b' : 'c'", 'a b'],
    ['zero ? 1 : N == 12 ? 2 : 3', 2],
    ['1 + (zero ? 1 : 2)', 3],
    ['N == 12 ? 1 + 1 : 5', 2],
  ])('%s = %j', (expression, value) => {
    expect(evaluate(expression, scope)).toBe(value);
  });

  it.each([
    ['N / 5', '12 / 5 does not divide evenly'],
    ['1 +', '"1 +" ends too early'],
    ['', '"" ends too early'],
    ['(1', 'missing ) in "(1"'],
    ['1 2', '"1 2" does not parse'],
    ['1 ? 2', '? without : in "1 ? 2"'],
    ['N & 4', '"N & 4" does not parse'],
    ['N ~', '"N ~" does not parse'],
    ["'open", 'unknown name \' in "\'open"'],
    ['missing', 'unknown name missing in "missing"'],
  ])('refuses %j', (expression, message) => {
    expect(() => evaluate(expression, scope)).toThrow(`shader: ${message}`);
  });

  it('enables f16 where code names it, not where a comment does', () => {
    expect(lines(['var a: vec2<f16>; // wide'])[0]).toBe('enable f16;');
    expect(lines(['// stores f16', 'var a: f32; // or f16'])[0]).toBe('// stores f16');
  });
});
