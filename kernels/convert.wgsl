// Elements of a checkpoint to a type that kernels read. TO: 'f16' or 'f32' (FROM and raw: include/elements.wgsl).
// One invocation converts two elements.
@group(0) @binding(0) var<storage, read> raw: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<${TO}>;
struct Params { count: u32, first: u32 } // elements; where they go in y
@group(0) @binding(20) var<uniform> p: Params;
#include "elements.wgsl"
#include "fold.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i * 2u >= p.count) { return; }
  let pair = vec2<${TO}>(elements(i));
  y[p.first + i * 2u] = pair.x;
  if (i * 2u + 1u < p.count) { y[p.first + i * 2u + 1u] = pair.y; }
}
