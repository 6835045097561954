// Elements of a checkpoint to a type that kernels read. FROM: 'bf16', 'f16' or 'f32'; TO: 'f16' or 'f32'.
// `raw` holds the file's bytes; one invocation converts two elements.
@group(0) @binding(0) var<storage, read> raw: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<${TO}>;
struct Params { count: u32, first: u32 } // elements; where they go in y
@group(1) @binding(0) var<uniform> p: Params;
#include "fold.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i * 2u >= p.count) { return; }
#if FROM == 'f32'
  let a = bitcast<f32>(raw[i * 2u]);
  y[p.first + i * 2u] = ${TO}(a);
  if (i * 2u + 1u < p.count) { y[p.first + i * 2u + 1u] = ${TO}(bitcast<f32>(raw[i * 2u + 1u])); }
#else
#if FROM == 'bf16'
  let pair = vec2f(bitcast<f32>(raw[i] << 16u), bitcast<f32>(raw[i] & 0xffff0000u));
#else
  let pair = unpack2x16float(raw[i]);
#endif
  y[p.first + i * 2u] = ${TO}(pair.x);
  if (i * 2u + 1u < p.count) { y[p.first + i * 2u + 1u] = ${TO}(pair.y); }
#endif
}
