// forward:  h = scale · silu(gate) · up
// backward: gate ← dh · up · silu'(gate),  up ← dh · silu(gate)      (dh is that of the unscaled h)
// One invocation four elements. TYPE: element type; scale: a power of two that keeps h inside f16.
#if forward
@group(0) @binding(0) var<storage, read> gate: array<vec4<${TYPE}>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<${TYPE}>>;
@group(0) @binding(2) var<storage, read_write> h: array<vec4<${TYPE}>>;
#else
@group(0) @binding(0) var<storage, read_write> gate: array<vec4<${TYPE}>>;
@group(0) @binding(1) var<storage, read_write> up: array<vec4<${TYPE}>>;
@group(0) @binding(2) var<storage, read> dh: array<vec4<${TYPE}>>;
#endif
struct Params { dim: u32, scale: f32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

#if forward
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= batch.rows * (p.dim / 4u)) { return; }
  let g = vec4f(gate[i]);
  h[i] = vec4<${TYPE}>(p.scale * g / (1.0 + exp(min(-g, vec4f(80.0)))) * vec4f(up[i]));
}
#else
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= batch.rows * (p.dim / 4u)) { return; }
  let g = vec4f(gate[i]);
  let d = vec4f(dh[i]);
  let s = 1.0 / (1.0 + exp(min(-g, vec4f(80.0)))); // an infinite exp would be undefined
  gate[i] = vec4<${TYPE}>(d * vec4f(up[i]) * s * (1.0 + g * (1.0 - s)));
  up[i] = vec4<${TYPE}>(d * g * s);
}
#endif
