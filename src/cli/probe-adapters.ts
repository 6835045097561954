/** Run by itself: prints the adapters as one line of JSON. A process of its own, because a broken driver may abort. */
import { listAdapters } from './gpu.js';

const adapters = await listAdapters();
console.log(
  JSON.stringify(
    adapters.map(({ name, kind, adapter }) => ({
      name,
      kind,
      usable: kind === 'gpu' || adapter.features.has('shader-f16'),
    })),
  ),
);
