// y = Σ_z sums[z], the parts of a product whose sum was split over workgroups. TYPE of y; ACCUMULATE: y += …;
// LIVE: only live rows, of p.rowQuads each, by COUNT from p.firstRow. Row 0 of the sums is row p.yRow of y, whose rows
// are p.yRowQuads long, from p.yFirstQuad on.
@group(0) @binding(0) var<storage, read> sums: array<vec4f>;              // [splits, quads]
@group(0) @binding(1) var<storage, read_write> y: array<vec4<${TYPE}>>;   // [rows, yRowQuads]
struct Params { quads: u32, splits: u32, rowQuads: u32, firstRow: u32, yRow: u32, yRowQuads: u32, yFirstQuad: u32 }
@group(0) @binding(20) var<uniform> p: Params;
#if LIVE
#include "batch.wgsl"
#endif
#include "fold.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
#if LIVE
  let live = ${COUNT} - min(${COUNT}, p.firstRow);
  if (i >= min(p.quads, live * p.rowQuads)) { return; }
#else
  if (i >= p.quads) { return; }
#endif
  let at = (p.yRow + i / p.rowQuads) * p.yRowQuads + p.yFirstQuad + i % p.rowQuads;
  var sum = ${ACCUMULATE ? 'vec4f(y[at])' : 'vec4f(0.0)'};
  for (var z = 0u; z < p.splits; z++) { sum += sums[z * p.quads + i]; }
  y[at] = vec4<${TYPE}>(sum);
}
