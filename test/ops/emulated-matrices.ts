import type { TestGpu } from '../gpu.js';

/**
 * A kernel of subgroup matrices as plain WGSL, for shapes that no device here has: of each `lanes` neighbours the first
 * holds the matrices, each in a slot of its own, and computes on them in f32, number by number.
 */
function emulateMatrices(code: string, lanes: number): string {
  const sizes: Record<string, { columns: number; rows: number }> = {};
  let operand = '';
  const scalar = code
    .replace(/enable (chromium_experimental_subgroup_matrix|subgroup_size_control);/g, '')
    .replace(/@subgroup_size\(\d+\)/g, '')
    .replace(
      /alias (\w+) = subgroup_matrix_(left|right|result)<(\w+), (\d+), (\d+)>;/g,
      (_, name, kind, type, columns, rows) => {
        sizes[name] = { columns: Number(columns), rows: Number(rows) };
        if (kind !== 'result') operand = type;
        return `alias ${name} = u32;`;
      },
    )
    .replace(
      /, @builtin\(subgroup_id\) subgroup: u32, @builtin\(subgroup_invocation_id\) lane: u32\) \{/,
      `) {
  let subgroup = li / ${lanes}u;
  let lane = li % ${lanes}u;
  holds = lane == 0u;
  nothing = u32(li > 9999u);`,
    );
  const [m, n, k] = [sizes.Left.rows, sizes.Right.columns, sizes.Left.columns];
  const size = Math.max(m * n, m * k, k * n);
  const slots = new Map<string, number>();
  /** Of a variable; operands that have none are used up at once. */
  const slot = (variable = 'operand') => {
    if (!slots.has(variable)) slots.set(variable, slots.size * size);
    return `${slots.get(variable)}u`;
  };
  const helpers = new Map<string, string>();
  const overAll = (name: string, step = '') => {
    const { columns, rows } = sizes[name];
    return `for (var r = 0u; r < ${rows}u + nothing; r++) {
    for (var c = 0u; c < ${columns}u + nothing; c ${step || '+= 1u'}) {`;
  };
  const calls = scalar
    .replace(
      /(?:(let )?(\w+) = )?subgroupMatrixLoad<(\w+), (row|col)_major>\(&(\w+), /g,
      (_, declares, variable, type, major, array) => {
        const name = `load${type}_${major}_${array}`;
        const [along, across] = major === 'row' ? ['c', 'r'] : ['r', 'c'];
        const [wide, number] =
          operand === 'f16' && type !== 'Result'
            ? [8, `unpack2x16float(${array}[at][${along} % 8u / 2u])[${along} % 2u]`]
            : [4, `bitcast<f32>(${array}[at][${along} % 4u])`];
        helpers.set(
          name,
          `fn ${name}(slot: u32, offset: u32, stride: u32) -> u32 {
  if (!holds) { return slot; }
  ${overAll(type)}
      let at = offset + ${across} * stride + ${along} / ${wide}u;
      numbers[slot + r * ${sizes[type].columns}u + c] = ${number};
    }
  }
  return slot;
}`,
        );
        return `${variable ? `${declares ?? ''}${variable} = ` : ''}${name}(${slot(variable)}, `;
      },
    )
    .replace(/subgroupMatrixStore<row_major>\(&(\w+), /g, (_, array) => {
      helpers.set(
        `store_${array}`,
        `fn store_${array}(offset: u32, slot: u32, stride: u32) {
  if (!holds) { return; }
  ${overAll('Result', '+= 4u')}
      let at = slot + r * ${n}u + c;
      let four = vec4f(numbers[at], numbers[at + 1u], numbers[at + 2u], numbers[at + 3u]);
      ${array}[offset + r * stride + c / 4u] = bitcast<vec4u>(four);
    }
  }
}`,
      );
      return `store_${array}(`;
    })
    .replace(/var (\w+): Result;/g, (_, name) => `var ${name} = zeros(${slot(name)});`)
    .replace(/var (\w+) = Result\(\);/g, (_, name) => `var ${name} = zeros(${slot(name)});`)
    .replaceAll('subgroupMatrixMultiplyAccumulate(', 'multiplyAccumulate(');
  const machine = `var<private> holds: bool;
var<private> nothing: u32; // zero, which the compiler does not know: it would unroll every loop
var<private> numbers: array<f32, ${slots.size * size}>;
fn zeros(slot: u32) -> u32 {
  ${overAll('Result')}
      numbers[slot + r * ${n}u + c] = 0.0;
    }
  }
  return slot;
}
fn multiplyAccumulate(a: u32, b: u32, sum: u32) -> u32 {
  if (!holds) { return sum; }
  ${overAll('Result')}
      let at = sum + r * ${n}u + c;
      var s = numbers[at];
      for (var l = 0u; l < ${k}u + nothing; l++) { s += numbers[a + r * ${k}u + l] * numbers[b + l * ${n}u + c]; }
      numbers[at] = s;
    }
  }
  return sum;
}`;
  return [calls, machine, ...helpers.values()].join('\n');
}

/** Makes every later kernel of matrices run emulated, as of units with so many lanes. */
export function emulateOn({ device: { gpu } }: TestGpu, lanes: () => number): void {
  const create = gpu.createShaderModule.bind(gpu);
  gpu.createShaderModule = (descriptor) =>
    create(
      descriptor.code.includes('subgroup_matrix')
        ? { ...descriptor, code: emulateMatrices(descriptor.code, lanes()) }
        : descriptor,
    );
}
