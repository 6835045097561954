// AdamW with decoupled weight decay over one flat chunk of adapter parameters, after torch.optim.AdamW; lora_B learns
// at its own rate (LoRA+). Gradients carry the loss scale and are clipped here: coefficient min(1, maxNorm / (norm +
// 1e-6)) as in torch.nn.utils.clip_grad_norm_. A non-finite norm leaves everything as it is.
// forward:  one step; also writes the operand copies that matmuls read (lora_B times its module's scale).
// copy:     only those copies, from parameters that came from elsewhere.
// One invocation four elements, of one matrix: matrices start at multiples of 64 elements. TYPE: operand type.
@group(0) @binding(0) var<storage, read_write> parameters: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> operands: array<vec4<${TYPE}>>;
@group(0) @binding(2) var<storage, read> scales: array<f32>; // [elements / 64] 0: lora_A; else lora_B's scale, above 0
#if forward
@group(0) @binding(3) var<storage, read> gradients: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> first: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> second: array<vec4f>;
@group(0) @binding(6) var<storage, read> norm: array<f32>; // [2] of the unscaled gradient; 1 where it is not finite
#endif
struct Params { quads: u32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

#if forward
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= p.quads || norm[1] != 0.0) { return; }
  var clip = batch.unscale;
  if (batch.maxNorm > 0.0) { clip *= min(1.0, batch.maxNorm / (norm[0] + 1e-6)); }
  let scale = scales[i / 16u];
  let isB = scale != 0.0;
  let rate = select(batch.rateA, batch.rateB, isB);
  let g = gradients[i] * clip;
  let m = batch.beta1 * first[i] + (1.0 - batch.beta1) * g;
  let v = batch.beta2 * second[i] + (1.0 - batch.beta2) * g * g;
  first[i] = m;
  second[i] = v;
  let step = m / batch.correction1 / (sqrt(v / batch.correction2) + batch.epsilon);
  let value = parameters[i] * (1.0 - rate * batch.decay) - rate * step;
  parameters[i] = value;
  operands[i] = vec4<${TYPE}>(value * select(1.0, scale, isB));
}
#else
@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= p.quads) { return; }
  let scale = scales[i / 16u];
  operands[i] = vec4<${TYPE}>(parameters[i] * select(1.0, scale, scale != 0.0));
}
#endif
