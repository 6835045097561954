import { expect, it } from 'vitest';
import { KernelCache } from '../../src/gpu/kernels.js';

it('refuses a kernel of more tensors than every device has room for', () => {
  const file = (tensors: number) =>
    Array.from({ length: tensors }, (_, i) => `@group(0) @binding(${i}) var<storage, read> t${i}: array<u32>;`)
      .concat('fn forward(@builtin(workgroup_id) wg: vec3u) {}')
      .join('\n');
  const get = (tensors: number) =>
    new KernelCache(null, () => file(tensors)).get({ kernel: 'many', pass: 'forward', defines: {} });
  expect(get(10).bindings).toHaveLength(10);
  expect(() => get(11)).toThrow('binds 11 tensors, more than the 10');
});
