// forward:  y[r] = x[index[r]]                          for the live logit rows
// backward: dx[i] = inverse[i] < 0 ? 0 : dy[inverse[i]]  for every live row, and a copy of it in operand type
// One workgroup a row; dim a multiple of 4.
#if forward
@group(0) @binding(0) var<storage, read> index: array<u32>;       // [logitRows]
@group(0) @binding(1) var<storage, read> x: array<vec4f>;         // [rows, dim]
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;   // [logitRows, dim]
#else
@group(0) @binding(0) var<storage, read> inverse: array<i32>;     // [rows]
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;        // [logitRows, dim]
@group(0) @binding(2) var<storage, read_write> dx: array<vec4f>;  // [rows, dim]
#if TYPE == 'f16'
@group(0) @binding(3) var<storage, read_write> dxCopy: array<vec4<f16>>;
#endif
#endif
struct Params { dim: u32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

#if forward
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= batch.logitRows) { return; }
  let width = p.dim / 4u;
  for (var i = li; i < width; i += 64u) { y[row * width + i] = x[index[row] * width + i]; }
}
#else
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= batch.rows) { return; }
  let width = p.dim / 4u;
  let source = inverse[row];
  for (var i = li; i < width; i += 64u) {
    var value = vec4f(0.0);
    if (source >= 0) { value = dy[u32(source) * width + i]; }
    dx[row * width + i] = value;
#if TYPE == 'f16'
    dxCopy[row * width + i] = vec4<f16>(value);
#endif
  }
}
#endif
