// Rows of a packed matrix as a plain one (formats: include/dequantize.wgsl). TYPE of y. An invocation unpacks 8 numbers.
@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read> scales: array<${FORMAT == 'nf4' ? 'f32' : 'vec2f'}>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<${TYPE}>>; // [rows, k]
#if COLUMNS
@group(0) @binding(3) var<storage, read> columnGroup: array<u32>;       // [k]
#endif
struct Params {
  units: u32,  // rows · k / 8
  first: u32,  // of the matrix that is the first of y, of the same size
  group: u32,
  k: u32,
  groups: u32, // of a row
}
@group(0) @binding(20) var<uniform> p: Params;
#include "dequantize.wgsl"
#include "fold.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  prepare(li);
  let i = folded(wg) * 64u + li;
  if (i >= p.units) { return; }
  let values = unpacked(p.first + i);
  y[2u * i] = vec4<${TYPE}>(values[0]);
  y[2u * i + 1u] = vec4<${TYPE}>(values[1]);
}
