import { expect, it } from 'vitest';
import { Device } from '../../src/gpu/device.js';

it.each([
  ['intel', { N: 8, subgroupMinSize: 8, subgroupMaxSize: 32 }, { subgroup: 8, pin: true }], // Arc A
  ['intel', { N: 16, subgroupMinSize: 16, subgroupMaxSize: 32 }, { subgroup: 16, pin: true }], // Xe2
  ['amd', { N: 16, subgroupMinSize: 32, subgroupMaxSize: 64 }, { subgroup: 64, pin: true }],
  ['nvidia', { N: 16, subgroupMinSize: 32, subgroupMaxSize: 32 }, { subgroup: 32, pin: false }],
])("runs %s's units in subgroups of their width: %o", async (vendor, { N, ...sizes }, expected) => {
  const shape = { M: 8, N, K: 16 };
  const subgroupMatrixConfigs = [
    { ...shape, componentType: 'f16', resultComponentType: 'f16' },
    { ...shape, componentType: 'f16', resultComponentType: 'f32' },
  ];
  const features = new Set(['chromium-experimental-subgroup-matrix']);
  const lost = new Promise(() => {});
  const gpu = { features, limits: {}, addEventListener: () => {}, lost };
  const info = { vendor, subgroupMatrixConfigs, ...sizes };
  const adapter = { features, limits: {}, info, requestDevice: async () => gpu } as unknown as GPUAdapter;
  const device = await Device.open(adapter, { cpu: false });
  expect(device.matrixUnits).toEqual([expect.objectContaining({ operand: 'f16', m: 8, n: N, k: 16, ...expected })]);
});
