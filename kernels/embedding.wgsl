// y[row] = table[tokens[row] - first] for the tokens of this part of the vocabulary. One workgroup a row.
// FORMAT: 'plain', the table then being of TYPE and dim a multiple of 4; else it is packed (include/dequantize.wgsl) and
// dim a multiple of 8.
@group(0) @binding(0) var<storage, read> tokens: array<u32>;
#if FORMAT == 'plain'
@group(0) @binding(1) var<storage, read> table: array<vec4<${TYPE}>>; // [count, dim]
#else
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<${FORMAT == 'nf4' ? 'f32' : 'vec2f'}>;
#if COLUMNS
@group(0) @binding(4) var<storage, read> columnGroup: array<u32>;
#endif
#endif
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;       // [rows, dim]
struct Params {
  k: u32,      // dim
  first: u32,
  count: u32,
  group: u32,  // of a packed table, see there
  groups: u32,
}
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"
#if FORMAT != 'plain'
#include "dequantize.wgsl"
#endif

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
#if FORMAT != 'plain'
  prepare(li);
#endif
  let row = folded(wg);
  if (row >= batch.rows) { return; }
  let token = tokens[row];
  if (token < p.first || token >= p.first + p.count) { return; }
#if FORMAT == 'plain'
  for (var i = li; i < p.k / 4u; i += 64u) {
    y[row * (p.k / 4u) + i] = vec4f(table[(token - p.first) * (p.k / 4u) + i]);
  }
#else
  for (var i = li; i < p.k / 8u; i += 64u) {
    let values = unpacked((token - p.first) * (p.k / 8u) + i);
    y[row * (p.k / 4u) + 2u * i] = values[0];
    y[row * (p.k / 4u) + 2u * i + 1u] = values[1];
  }
#endif
}
