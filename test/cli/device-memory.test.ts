import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { freemem, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { deviceMemory } from '../../src/cli/device-memory.js';

const gib = 2 ** 30;
const mock = vi.hoisted(() => ({ free: 64 * 2 ** 30, total: 96 * 2 ** 30 }));
vi.mock('node:os', async (original) => ({
  ...(await original<typeof import('node:os')>()),
  freemem: () => mock.free,
  totalmem: () => mock.total,
}));

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lexalign-'));
  vi.spyOn(process, 'availableMemory').mockImplementation(() => mock.free);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true });
});

const memory = (vendor: string, allocatedBytes = 0) =>
  deviceMemory(
    {
      features: { cpu: false, f16: true, timestamps: true, subgroups: true },
      info: { vendor } as GPUAdapterInfo,
      allocatedBytes,
    },
    root,
  );

/** A card as amdgpu shows it: files by name, GiB. */
function card(name: string, files: Record<string, number | string>): void {
  const directory = join(root, 'sys/class/drm', name, 'device');
  mkdirSync(directory, { recursive: true });
  for (const [file, value] of Object.entries(files))
    writeFileSync(join(directory, `mem_info_${file}`), `${typeof value === 'number' ? value * gib : value}\n`);
}

const radeon = { vram_total: 16, vram_used: 2, vram_vendor: 'samsung', gtt_total: 48, gtt_used: 0 };
const inRyzen = { vram_total: 0.5, vram_used: 0.25, vram_vendor: 'unknown', gtt_total: 48, gtt_used: 1 };

describe('memory of AMD GPUs', () => {
  it('is what the card has free, and what this process has there', () => {
    card('card1', radeon);
    card('card0', {}); // another vendor's
    mkdirSync(join(root, 'sys/class/drm/card1-DP-1'));
    expect(memory('amd')).toEqual({ bytes: 14 * gib, what: 'free on the device' });
    expect(memory('amd', 2 * gib)?.bytes).toBe(16 * gib);
  });

  it('is that of the card beside an integrated GPU, however much may be set apart for that', () => {
    for (const total of [0.5, 64]) {
      card('card0', { ...inRyzen, vram_total: total });
      card('card1', radeon);
      expect(memory('amd')).toEqual({ bytes: 14 * gib, what: 'free on card1, taken for the fastest of 2 AMD GPUs' });
    }
  });

  it('is that of the largest of several cards, of equal ones of the fullest', () => {
    card('card0', { ...radeon, vram_total: 8, vram_used: 0 });
    card('card1', radeon);
    card('card2', { ...radeon, vram_used: 5 });
    expect(memory('amd')).toEqual({ bytes: 11 * gib, what: 'free on card2, taken for the fastest of 3 AMD GPUs' });
  });

  it("counts the system's for an integrated GPU, as far as that is free", () => {
    card('card0', inRyzen);
    expect(memory('amd')).toEqual({ bytes: 47.25 * gib, what: 'free on the device' });
    card('card0', { ...inRyzen, gtt_total: 96 });
    expect(memory('amd')?.bytes).toBe((0.25 + 64) * gib);
  });

  it('counts it where newer kernels name no maker', () => {
    const { vram_vendor: _, ...files } = inRyzen;
    card('card0', files);
    expect(memory('amd')?.bytes).toBe(47.25 * gib);
  });

  it('is unknown where amdgpu tells nothing', () => {
    expect(memory('amd')).toBeNull();
    card('card0', {});
    expect(memory('amd')).toBeNull();
  });
});

it('of an Apple GPU is a part of what it shares with the CPU, what is allocated included', () => {
  expect(totalmem()).toBe(96 * gib);
  expect(memory('apple', 5 * gib)?.bytes).toBeCloseTo(0.7 * 96 * gib, 0);
});

it('of an Intel GPU is unknown, and of cores that of the system', () => {
  expect(memory('intel')).toBeNull();
  const features = { cpu: true, f16: true, timestamps: true, subgroups: true };
  const device = { features, info: { vendor: 'mesa' } as GPUAdapterInfo, allocatedBytes: gib };
  expect(deviceMemory(device, root)?.bytes).toBe(freemem() + gib);
});
