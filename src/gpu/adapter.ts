/** What executes a device's work: a graphics processor, or a driver that runs shaders on the CPU. */
export type AdapterKind = 'gpu' | 'cpu';

/** auto: a GPU if there is one, else the CPU; gpu, cpu: that kind or nothing. */
export type AdapterWish = 'auto' | AdapterKind;

const softwareNames = /llvmpipe|lavapipe|swiftshader|microsoft basic render|\bwarp\b/i;

/** Kind of an adapter, by its fallback flag and by the names of the known software drivers. */
export function adapterKind(info: GPUAdapterInfo): AdapterKind {
  const names = [info.vendor, info.architecture, info.device, info.description].join(' ');
  return info.isFallbackAdapter || softwareNames.test(names) ? 'cpu' : 'gpu';
}

/** The fastest adapter of the wished kind, or null where there is none. */
export async function chooseAdapter(gpu: GPU, wish: AdapterWish): Promise<GPUAdapter | null> {
  const best = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!best || wish === 'auto' || adapterKind(best.info) === wish) return best;
  if (wish === 'gpu') return null;
  const fallback = await gpu.requestAdapter({ forceFallbackAdapter: true });
  return fallback && adapterKind(fallback.info) === 'cpu' ? fallback : null;
}
