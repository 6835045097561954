import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Device } from '../gpu/device.js';

/** Memory that a run may take, bytes, and in words what that is: "free on the device". */
export interface DeviceMemory {
  readonly bytes: number;
  readonly what: string;
}

/**
 * Memory that a run may take, as the system tells it: what is free and what this process holds there already. Null where
 * nothing tells; WebGPU itself does not.
 */
export function deviceMemory(
  device: Pick<Device, 'features' | 'info' | 'allocatedBytes'>,
  root = '/',
): DeviceMemory | null {
  const vendor = device.features.cpu ? 'cpu' : device.info.vendor;
  // Metal recommends two thirds to four fifths of what CPU and GPU share; what is free is little beside the caches.
  if (vendor === 'apple') return { bytes: 0.7 * totalmem(), what: "seven tenths of the system's memory" };
  const free = freeMemory(vendor, root);
  return free && { ...free, bytes: free.bytes + device.allocatedBytes };
}

function freeMemory(vendor: string, root: string): DeviceMemory | null {
  if (vendor === 'cpu') return { bytes: freeOfSystem(), what: 'free on the device' };
  if (vendor === 'nvidia') return nvidiaMemory();
  return vendor === 'amd' ? amdMemory(root) : null;
}

/** availableMemory knows a container's limit; Node.js before 20.13 lacks it. */
function freeOfSystem(): number {
  return Math.min(freemem(), process.availableMemory?.() ?? Number.POSITIVE_INFINITY);
}

/** Of several cards the fullest counts: which of them Dawn chose is not told. */
function nvidiaMemory(): DeviceMemory | null {
  try {
    const text = execFileSync('nvidia-smi', ['--query-gpu=memory.free', '--format=csv,noheader,nounits'], {
      encoding: 'utf8',
      timeout: 5000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const free = text
      .trim()
      .split('\n')
      .map((line) => Number(line) * 2 ** 20)
      .filter((bytes) => bytes > 0);
    return free.length > 0 ? { bytes: Math.min(...free), what: 'free on the device' } : null;
  } catch {
    return null;
  }
}

/** An AMD GPU. One in the CPU's package has memory set apart for it, and takes more of the system's (GTT) as it needs. */
interface AmdCard {
  readonly name: string;
  readonly integrated: boolean;
  /** Of its own or set apart, bytes. */
  readonly total: number;
  /** That, and what it may take of the system's. */
  readonly free: number;
}

/**
 * Of several cards that which Dawn's preference for performance should mean: rather none in the CPU's package, that of
 * most memory, of equal ones the fullest.
 */
function amdMemory(root: string): DeviceMemory | null {
  const cards = readAmdCards(join(root, 'sys/class/drm')).sort(
    (a, b) => Number(a.integrated) - Number(b.integrated) || b.total - a.total || a.free - b.free,
  );
  if (cards.length === 0) return null;
  const [{ name, free }] = cards;
  const what =
    cards.length > 1 ? `free on ${name}, taken for the fastest of ${cards.length} AMD GPUs` : 'free on the device';
  return { bytes: free, what };
}

function readAmdCards(directory: string): AmdCard[] {
  try {
    const names = readdirSync(directory).filter((name) => /^card\d+$/.test(name));
    return names.flatMap((name) => readAmdCard(directory, name) ?? []);
  } catch {
    return [];
  }
}

/** Null for what is no card of the amdgpu driver. */
function readAmdCard(directory: string, name: string): AmdCard | null {
  const read = (file: string) => {
    try {
      return readFileSync(join(directory, name, 'device', `mem_info_${file}`), 'utf8').trim();
    } catch {
      return null;
    }
  };
  const total = Number(read('vram_total'));
  if (!total) return null;
  // Chips of its own have a maker; else the file says unknown or, in newer kernels, is not there.
  const integrated = ['unknown', null].includes(read('vram_vendor'));
  const own = total - Number(read('vram_used'));
  const shared = Math.min(Number(read('gtt_total')) - Number(read('gtt_used')), freeOfSystem());
  return { name, integrated, total, free: integrated ? own + shared : own };
}
