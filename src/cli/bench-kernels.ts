import type { Ceilings } from '../../bench/ceilings.js';
import { benchMatmul, largestTensor, type MatmulShape } from '../../bench/kernels/matmul.js';
import { benchOperation, operations } from '../../bench/kernels/operations.js';
import { matmulShapes } from '../../bench/matmul-shapes.js';
import { tfjsMatmul } from '../../bench/peer-tfjs.js';
import { torchTimes } from '../../bench/peer-torch.js';
import { type BenchRow, withPeer, withShare } from '../../bench/rows.js';
import type { Device } from '../gpu/device.js';
import { operandOf, type Tier } from '../model/language-model.js';
import { packageRoot } from '../paths.js';
import { type BenchRequest, planModels } from './bench-request.js';
import { tune } from './bench-tune.js';
import { openAdapter } from './gpu.js';
import { formatBytes } from './memory.js';
import type { OpenDevice } from './session.js';

/** The models and rows to measure, and the products among them without repetition. */
async function sweep({ models, quantize, rows, shapes }: BenchRequest, cpu: boolean) {
  const measured = models ?? (await planModels(cpu ? ['small'] : ['llama-3.1-8b', 'qwen2.5-7b'], quantize));
  const counts = rows ?? (cpu ? [512] : [16, 512, 4096]);
  const products = new Map<string, MatmulShape>();
  for (const m of counts) {
    for (const { config, packed } of measured)
      for (const { count: _, ...shape } of matmulShapes(config, m, packed))
        products.set(Object.values(shape).join(), shape);
  }
  return { configs: measured.map(({ config }) => config), counts, products: shapes ?? [...products.values()] };
}

/** Times matmuls and the other operations, in each tier asked for, beside a peer where one is asked for. */
export async function benchKernels(
  open: OpenDevice,
  request: BenchRequest,
  args: Readonly<Record<string, unknown>>,
  ceilings: Ceilings,
): Promise<{ rows: BenchRow[] }> {
  const { only } = request;
  const { configs, counts, products } = await sweep(request, open.device.features.cpu);
  const tiers = tiersOf(args.tier as string, open.device);
  const opened = args.peer === 'tfjs' ? await openAdapter({ wish: args.device as string }) : null;
  const tfjs = opened ? { name: 'tfjs f32', matmul: await tfjsMatmul(open.device, opened.gpu) } : null;
  const rows: BenchRow[] = [];
  const attentions: number[][] = [];
  if (only.has('matmul')) {
    for (const shape of products) {
      for (const tier of tiers) {
        const bytes = largestTensor(shape, operandOf(tier));
        if (bytes > open.device.maxBinding) {
          const name = `matmul ${shape.m}x${shape.n}x${shape.k} in tier ${tier}`;
          console.log(`${name}: left out, ${formatBytes(bytes)} are more than this device binds at once`);
          continue;
        }
        for (const form of ['nt', 'nn'] as const)
          rows.push(await benchMatmul(open, tier, form, shape, form === 'nn' ? tfjs : null));
      }
    }
  }
  for (const operation of Object.keys(operations)) {
    if (!only.has(operation)) continue;
    for (const config of configs) {
      for (const count of counts) {
        if (operation === 'attention') attentions.push([count, config.heads, config.kvHeads, config.headDim]);
        for (const tier of tiers) rows.push(...(await benchOperation(open, operation, tier, config, count)));
      }
    }
  }
  opened?.release();
  const shared = rows.map((row) => withShare(row, ceilings));
  if (args.peer !== 'torch') return { rows: shared };
  await open.device.finish();
  const matmul = only.has('matmul') ? products.map(({ m, n, k }) => [m, n, k]) : [];
  const torch = await torchTimes(packageRoot, { matmul, attention: attentions });
  const times = new Map<string, number>();
  matmul.forEach((dims, i) => {
    times.set(`matmul ${dims.join('x')}`, torch.matmul[i]);
  });
  attentions.forEach(([count, heads, kvHeads, dim], i) => {
    const name = `attention ${count} rows, ${heads}/${kvHeads} heads of ${dim}`;
    times.set(`${name} forward`, torch.attention[i][0]).set(`${name} forward and backward`, torch.attention[i][1]);
  });
  return { rows: shared.map((row) => withPeer(row, torch.name, times)) };
}

/** Looks for settings of the same products and of attention, in the place of measuring them. */
export async function tuneKernels(open: OpenDevice, request: BenchRequest): Promise<{ rows: BenchRow[] }> {
  const { products, configs, counts } = await sweep(request, open.device.features.cpu);
  await tune(open, {
    products: request.only.has('matmul') ? products : [],
    models: request.only.has('attention') ? configs : [],
    rows: Math.max(...counts),
  });
  return { rows: [] };
}

/** Without --tier, all that the device has. */
function tiersOf(tier: string, device: Device): Tier[] {
  if (tier === 'tensor' || tier === 'f16' || tier === 'f32') return [tier];
  return [
    'f32',
    ...(device.features.f16 ? ['f16' as const] : []),
    ...(device.matrixUnits.length > 0 ? ['tensor' as const] : []),
  ];
}
