// A linear value head on the live logit rows: parameters are w [dim], b.
// forward:  values[r] = hidden[r] · w + b
// loss:     dvalues[r] = gradScale · Σ dL/dvalue over the row's samples, of the clipped value loss (Schulman et al.'s
//           PPO code): L = ½·max((V − R)², (V_old + clip(V − V_old, ±ε) − R)²)
// backward: dhidden[r] = dvalues[r] · w
// weights:  gradients += Σ_r dvalues[r] · (hidden[r], 1), rows in order
// dim is a multiple of 4.
#if forward || backward
@group(0) @binding(0) var<storage, read> parameters: array<f32>;          // [dim + 1, …]
#endif
#if forward
@group(0) @binding(1) var<storage, read> hidden: array<f32>;              // [logit rows, dim]
@group(0) @binding(2) var<storage, read_write> values: array<f32>;        // [logit rows]
#endif
#if loss
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> sampleStart: array<u32>;         // [logit rows + 1]
@group(0) @binding(2) var<storage, read> samples: array<vec2f>;           // [samples] old value, return
@group(0) @binding(3) var<storage, read_write> dvalues: array<f32>;       // [logit rows]
#endif
#if backward
@group(0) @binding(1) var<storage, read> dvalues: array<f32>;
@group(0) @binding(2) var<storage, read_write> dhidden: array<f32>;       // [logit rows, dim]
#endif
#if weights
@group(0) @binding(0) var<storage, read> hidden: array<f32>;
@group(0) @binding(1) var<storage, read> dvalues: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradients: array<f32>;     // [dim + 1, …]
#endif
#if loss
struct Params { cliprange: f32 }
#else
struct Params { dim: u32 }
#endif
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"
#if forward
#include "reduce.wgsl"
#endif

#if forward
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= batch.logitRows) { return; }
  var sum = 0.0;
  for (var i = li; i < p.dim; i += 64u) { sum += hidden[row * p.dim + i] * parameters[i]; }
  sum = sum64(sum, li);
  if (li == 0u) { values[row] = sum + parameters[p.dim]; }
}
#elif loss
@compute @workgroup_size(64)
fn loss(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg) * 64u + li;
  if (row >= batch.logitRows) { return; }
  let value = values[row];
  var sum = 0.0;
  for (var s = sampleStart[row]; s < sampleStart[row + 1u]; s++) {
    let change = value - samples[s].x;
    let plain = value - samples[s].y;
    let bounded = samples[s].x + clamp(change, -p.cliprange, p.cliprange) - samples[s].y;
    // Beyond the bounds the larger counts; the bound itself stands still.
    if (abs(change) <= p.cliprange || bounded * bounded <= plain * plain) { sum += plain; }
  }
  dvalues[row] = batch.gradScale * sum;
}
#elif backward
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= batch.logitRows) { return; }
  for (var i = li; i < p.dim; i += 64u) { dhidden[row * p.dim + i] = dvalues[row] * parameters[i]; }
}
#else
@compute @workgroup_size(64)
fn weights(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i > p.dim) { return; }
  var sum = gradients[i];
  for (var row = 0u; row < batch.logitRows; row++) {
    sum += dvalues[row] * select(1.0, hidden[row * p.dim + min(i, p.dim - 1u)], i < p.dim);
  }
  gradients[i] = sum;
}
#endif
