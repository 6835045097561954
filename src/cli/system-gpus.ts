import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** PCI vendors whose render nodes are real GPUs; virtual displays and server management chips are not listed. */
const vendors: Record<string, string> = {
  '0x10de': 'NVIDIA',
  '0x1002': 'AMD',
  '0x8086': 'Intel',
  '0x1d94': 'Hygon',
  '0x1ed5': 'Moore Threads',
};

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/**
 * GPUs that the operating system shows to this process, whether or not a graphics driver can use them, as
 * "NVIDIA (/dev/nvidia0)". Linux only: elsewhere the graphics driver comes with the system and the list is empty.
 */
export function visibleGpus(root = '/'): string[] {
  const nvidia = list(join(root, 'dev')).filter((name) => /^nvidia\d+$/.test(name));
  const found = nvidia.map((name) => `NVIDIA (/dev/${name})`);
  for (const node of list(join(root, 'dev/dri')).filter((name) => name.startsWith('renderD'))) {
    const file = join(root, 'sys/class/drm', node, 'device/vendor');
    const vendor = existsSync(file) ? vendors[readFileSync(file, 'utf8').trim()] : undefined;
    if (vendor && !(vendor === 'NVIDIA' && nvidia.length)) found.push(`${vendor} (/dev/dri/${node})`);
  }
  return found;
}

/** Where drivers keep the file that names them, of places that the Vulkan loader does not search: Google's installer for containers. */
const driverPlaces = ['usr/local/nvidia/share/vulkan/icd.d'];

/** Vulkan drivers that the system has but its loader would not find. Linux only. */
export function unlistedDrivers(root = '/'): string[] {
  return driverPlaces.flatMap((place) =>
    list(join(root, place))
      .filter((name) => name.endsWith('.json'))
      .map((name) => join(root, place, name)),
  );
}
