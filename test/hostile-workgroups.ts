import type { TestGpu } from './gpu.js';

/**
 * A kernel whose workgroups, and the subgroups in each, run last first, whose invocations are numbered across subgroups (no
 * rule of WGSL's says that these hold neighbours), and whose workgroup memory begins full of NaN.
 *
 * The software driver runs a workgroup's subgroups one after another, each to the next barrier: what lacks a barrier is
 * right there where who writes comes first. In one of the two orders it is not. Two lacks are not seen: among the lanes of
 * one subgroup, and behind a loop with barriers in it, where this driver seems to wait too.
 */
function hostile(code: string): string {
  const invocations = `${/@workgroup_size\((\d+)\)/.exec(code)?.[1]}u`;
  return code.replace(/fn (\w+)\((@builtin\(.*)\) \{/, (_, name: string, builtins: string) => {
    const lines: string[] = [];
    let more = '';
    if (/ wg:/.test(builtins)) {
      more += ', @builtin(num_workgroups) workgroups: vec3u';
      lines.push('let wg = workgroups - 1u - workgroupInOrder;');
    }
    if (/ subgroup:/.test(builtins)) {
      more += ', @builtin(subgroup_size) lanes: u32';
      lines.push(`let subgroup = ${invocations} / lanes - 1u - subgroupInOrder;`);
      lines.push(`let li = (subgroup * lanes + invocationInOrder % lanes + lanes / 2u) % ${invocations};`);
    } else if (/ li:/.test(builtins)) lines.push(`let li = ${invocations} - 1u - invocationInOrder;`);
    const inOrder = builtins
      .replace(' wg:', ' workgroupInOrder:')
      .replace(' subgroup:', ' subgroupInOrder:')
      .replace(' li:', ' invocationInOrder:');
    return `fn ${name}(${inOrder}${more}) {\n${[...lines, ...poison(code, invocations)].join('\n')}`;
  });
}

/** Statements that fill all workgroup memory, so that what a kernel did not write there shows. */
function poison(code: string, invocations: string): string[] {
  const variables = [...code.matchAll(/^var<workgroup> (\w+): (.*);/gm)];
  if (!variables.length) return [];
  // No constant: WGSL has none that is NaN.
  const nan = 'let poison = 0x7fff7fffu - (invocationInOrder & 0u);';
  return [nan, ...variables.map(([, name, type]) => fill(name, type, invocations)), 'workgroupBarrier();'];
}

function fill(place: string, type: string, invocations: string, depth = 0): string {
  const [, element, length] = /^array<(array<\w+, \w+>|atomic<u32>|\w+), (.*)>$/.exec(type) ?? [];
  if (element) {
    const i = `i${depth}`;
    const [from, step] = depth ? ['0u', '1u'] : ['invocationInOrder', invocations];
    const inner = fill(`${place}[${i}]`, element, invocations, depth + 1);
    return `for (var ${i} = ${from}; ${i} < ${length}; ${i} += ${step}) { ${inner} }`;
  }
  if (type === 'atomic<u32>') return `atomicStore(&${place}, poison);`;
  const [, wide] = /^(?:u32|f32|vec(\d)[uf])$/.exec(type)!;
  return `${place} = bitcast<${type}>(${wide ? `vec${wide}u(poison)` : 'poison'});`;
}

/** Makes every later kernel run so. */
export function makeHostile({ device: { gpu } }: TestGpu): void {
  const create = gpu.createShaderModule.bind(gpu);
  gpu.createShaderModule = (descriptor) => create({ ...descriptor, code: hostile(descriptor.code) });
}
