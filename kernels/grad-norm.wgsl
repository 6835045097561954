// L2 norm of a flat gradient, and whether all of it is finite (by exponent bits: WGSL may assume NaN and infinity away).
// squares: each workgroup sums the squares of 4,096 unscaled elements: sums[first + wg] = (sum, 1 if non-finite)
// total:    norm = (sqrt of all sums, 1 if any was non-finite)
#if squares
@group(0) @binding(0) var<storage, read> gradients: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec2f>;
struct Params { quads: u32, first: u32 }
#else
@group(0) @binding(0) var<storage, read> sums: array<vec2f>;
@group(0) @binding(1) var<storage, read_write> norm: array<f32>; // [2]
struct Params { count: u32 }
#endif
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"
#include "reduce.wgsl"

fn bad(value: vec4f) -> bool {
  return any((bitcast<vec4u>(value) & vec4u(0x7f800000u)) == vec4u(0x7f800000u));
}

#if squares
@compute @workgroup_size(64)
fn squares(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let index = folded(wg);
  if (index * 1024u >= p.quads) { return; }
  var sum = 0.0;
  var flag = 0.0;
  for (var i = 0u; i < 16u; i++) {
    let at = index * 1024u + i * 64u + li;
    if (at < p.quads) {
      let raw = gradients[at];
      let g = raw * batch.unscale;
      sum += dot(g, g);
      if (bad(raw)) { flag = 1.0; }
    }
  }
  sum = sum64(sum, li);
  flag = max64(flag, li);
  if (li == 0u) { sums[p.first + index] = vec2f(sum, flag); }
}
#endif

#if total
@compute @workgroup_size(64)
fn total(@builtin(local_invocation_index) li: u32) {
  var sum = 0.0;
  var flag = 0.0;
  for (var i = li; i < p.count; i += 64u) {
    sum += sums[i].x;
    flag = max(flag, sums[i].y);
  }
  sum = sum64(sum, li);
  flag = max64(flag, li);
  if (li == 0u) {
    norm[0] = sqrt(sum);
    norm[1] = select(flag, 1.0, bad(vec4f(sum)));
  }
}
#endif
