// y[row] = table[tokens[row] - first] for the tokens of this part of the vocabulary. One workgroup a row.
// TYPE: element type of the table. dim: a multiple of 4.
@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<vec4<${TYPE}>>; // [count, dim]
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;       // [rows, dim]
struct Params { dim: u32, first: u32, count: u32 }
@group(1) @binding(0) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= batch.rows) { return; }
  let token = tokens[row];
  if (token < p.first || token >= p.first + p.count) { return; }
  for (var i = li; i < p.dim / 4u; i += 64u) {
    y[row * (p.dim / 4u) + i] = vec4f(table[(token - p.first) * (p.dim / 4u) + i]);
  }
}
