import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import type { OpenDevice } from './session.js';

/**
 * Memory that a run may take, as the system tells it: what is free and what this process holds there already, bytes.
 * Null where nothing tells; WebGPU itself does not.
 */
export function deviceMemory({ device }: OpenDevice): number | null {
  const free = freeMemory(device.features.cpu ? 'cpu' : device.info.vendor);
  return free === null ? null : free + device.allocatedBytes;
}

/** Of several cards of a vendor the fullest counts: which of them Dawn chose is not told. */
function freeMemory(vendor: string): number | null {
  // availableMemory knows a container's limit; Node.js before 20.13 lacks it.
  if (vendor === 'cpu') return Math.min(freemem(), process.availableMemory?.() ?? Number.POSITIVE_INFINITY);
  if (vendor === 'nvidia') return nvidiaMemory();
  return vendor === 'amd' ? amdMemory() : null;
}

function nvidiaMemory(): number | null {
  try {
    const text = execFileSync('nvidia-smi', ['--query-gpu=memory.free', '--format=csv,noheader,nounits'], {
      encoding: 'utf8',
      timeout: 5000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return least(
      text
        .trim()
        .split('\n')
        .map((line) => Number(line) * 2 ** 20),
    );
  } catch {
    return null;
  }
}

function amdMemory(): number | null {
  try {
    const cards = readdirSync('/sys/class/drm').filter((card) => /^card\d+$/.test(card));
    return least(cards.map(amdCardMemory));
  } catch {
    return null;
  }
}

function amdCardMemory(card: string): number {
  try {
    const read = (name: string) => Number(readFileSync(`/sys/class/drm/${card}/device/${name}`, 'utf8'));
    return read('mem_info_vram_total') - read('mem_info_vram_used');
  } catch {
    return Number.NaN; // not an amdgpu card
  }
}

/** The least of the numbers above 0; null where there is none. */
function least(values: readonly number[]): number | null {
  const known = values.filter((value) => value > 0);
  return known.length > 0 ? Math.min(...known) : null;
}
