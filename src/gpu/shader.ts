/** Values that a kernel file is specialised with: numbers for sizes and switches, strings for type names. */
export type Defines = Readonly<Record<string, number | string>>;

/**
 * Specialises a kernel file. Directives stand alone on a line:
 *
 *     #include "rows.wgsl"        the file of that name under kernels/include
 *     #if EXPR / #elif / #else / #endif
 *     #for i in FROM..TO          repeats its lines with i = FROM, …, TO − 1
 *     #endfor
 *
 * and `${EXPR}` anywhere in a line is replaced by its value. Expressions know numbers, names, 'strings', parentheses,
 * ! * / % + - < <= > >= == != && || and c ? a : b; an unknown name is an error. `/` on numbers must divide evenly.
 */
export function specialise(source: string, defines: Defines, include: (name: string) => string): string {
  const out: string[] = [];
  emitFile(source, new Map(Object.entries(defines)), include, out);
  const text = out.join('\n');
  // Of the code alone: a device without f16 refuses what enables it.
  return /\bf16\b/.test(text.replace(/\/\/.*/g, '')) ? `enable f16;\n${text}` : text;
}

type Scope = Map<string, number | string>;

const directive = /^\s*#(include|if|elif|else|endif|for|endfor)\b\s*(.*?)\s*$/;

function emitFile(source: string, scope: Scope, include: (name: string) => string, out: string[]): void {
  const lines = source.split('\n');
  const end = emit(lines, 0, scope, include, out);
  if (end !== lines.length) throw new Error(`shader: unmatched ${lines[end].trim()} in line ${end + 1}`);
}

/** Emits lines from `at` up to the directive that closes the enclosing block; returns that line's index. */
function emit(
  lines: string[],
  at: number,
  scope: Scope,
  include: (name: string) => string,
  out: string[] | null,
): number {
  let i = at;
  while (i < lines.length) {
    const match = directive.exec(lines[i]);
    if (!match) {
      out?.push(lines[i].replace(/\$\{([^}]*)\}/g, (_, e: string) => String(evaluate(e, scope))));
      i++;
      continue;
    }
    const [, word, rest] = match;
    if (word === 'include') {
      if (out) emitFile(include(rest.replace(/^"|"$/g, '')), scope, include, out);
      i++;
    } else if (word === 'if') {
      i = emitBranches(lines, i, scope, include, out);
    } else if (word === 'for') {
      const loop = /^(\w+) in (.+)\.\.(.+)$/.exec(rest);
      if (!loop) throw new Error(`shader: bad #for in line ${i + 1}`);
      const from = out ? Number(evaluate(loop[2], scope)) : 0;
      const to = out ? Number(evaluate(loop[3], scope)) : 0;
      const body = i + 1;
      i = emit(lines, body, scope, include, null);
      for (let n = from; n < to; n++) emit(lines, body, new Map(scope).set(loop[1], n), include, out);
      if (!lines[i]?.includes('#endfor')) throw new Error(`shader: #for of line ${body} is not closed`);
      i++;
    } else {
      return i;
    }
  }
  return i;
}

function emitBranches(
  lines: string[],
  at: number,
  scope: Scope,
  include: (name: string) => string,
  out: string[] | null,
): number {
  let i = at;
  let taken = false;
  for (;;) {
    const match = directive.exec(lines[i] ?? '');
    if (!match) throw new Error(`shader: #if of line ${at + 1} is not closed`);
    const [, word, rest] = match;
    if (word === 'endif') return i + 1;
    if (word === 'endfor') throw new Error(`shader: #endfor of line ${i + 1} closes the #if of line ${at + 1}`);
    const live: boolean = out !== null && !taken && (word === 'else' || Boolean(evaluate(rest, scope)));
    taken ||= live;
    i = emit(lines, i + 1, scope, include, live ? out : null);
  }
}

const binary: Record<string, [number, (a: number | string, b: number | string) => number | string]> = {
  '||': [1, (a, b) => Number(Boolean(a) || Boolean(b))],
  '&&': [2, (a, b) => Number(Boolean(a) && Boolean(b))],
  '==': [3, (a, b) => Number(a === b)],
  '!=': [3, (a, b) => Number(a !== b)],
  '<': [4, (a, b) => Number(a < b)],
  '<=': [4, (a, b) => Number(a <= b)],
  '>': [4, (a, b) => Number(a > b)],
  '>=': [4, (a, b) => Number(a >= b)],
  '+': [5, (a, b) => (typeof a === 'string' || typeof b === 'string' ? `${a}${b}` : a + b)],
  '-': [5, (a, b) => Number(a) - Number(b)],
  '*': [6, (a, b) => Number(a) * Number(b)],
  '/': [6, (a, b) => divide(Number(a), Number(b))],
  '%': [6, (a, b) => Number(a) % Number(b)],
};

function divide(a: number, b: number): number {
  if (a % b !== 0) throw new Error(`shader: ${a} / ${b} does not divide evenly`);
  return a / b;
}

/** Evaluates an expression of the preprocessor by precedence climbing. */
export function evaluate(expression: string, scope: ReadonlyMap<string, number | string>): number | string {
  const tokens = expression.match(/\d+(?:\.\d+)?|\w+|'[^']*'|\|\||&&|[=!<>]=|\S/g) ?? [];
  let at = 0;
  const primary = (): number | string => {
    const token = tokens[at++];
    if (token === '(') {
      const value = climb(0);
      if (tokens[at++] !== ')') throw new Error(`shader: missing ) in "${expression}"`);
      return value;
    }
    if (token === '!') return Number(!primary());
    if (token === '-') return -Number(primary());
    if (token === undefined) throw new Error(`shader: "${expression}" ends too early`);
    if (/^\d/.test(token)) return Number(token);
    if (/^'.*'$/.test(token)) return token.slice(1, -1);
    const value = scope.get(token);
    if (value === undefined) throw new Error(`shader: unknown name ${token} in "${expression}"`);
    return value;
  };
  const climb = (least: number): number | string => {
    let left = primary();
    for (;;) {
      const token = tokens[at];
      if (token === '?' && least === 0) {
        at++;
        const yes = climb(0);
        if (tokens[at++] !== ':') throw new Error(`shader: ? without : in "${expression}"`);
        const no = climb(0);
        left = left ? yes : no;
        continue;
      }
      const operator = binary[token];
      if (!operator || operator[0] < least) return left;
      at++;
      left = operator[1](left, climb(operator[0] + 1));
    }
  };
  const value = climb(0);
  if (at !== tokens.length) throw new Error(`shader: "${expression}" does not parse`);
  return value;
}
