// forward:  y = x · rstd · w,  rstd = 1 / sqrt(mean(x²) + epsilon)
// backward: dx = rstd · w · dy − x · rstd³ / dim · Σ w·dy·x     (w is frozen)
// One workgroup a row of dim elements (a multiple of 4); `perRow` such rows to a row of the batch (heads, for q and k
// norms). X, Y, DY: element types. COUNT: the live rows. ACCUMULATE: dx += …, and a copy of dx in type COPY.
#if forward
@group(0) @binding(0) var<storage, read> x: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read> w: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<${Y}>>;
#else
@group(0) @binding(0) var<storage, read> x: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read> w: array<vec4f>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<${DY}>>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<${DX}>>;
#if COPY == 'f16'
@group(0) @binding(4) var<storage, read_write> dxCopy: array<vec4<f16>>;
#endif
#endif
struct Params { dim: u32, perRow: u32, epsilon: f32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"
#include "reduce.wgsl"

#if forward
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= ${COUNT} * p.perRow) { return; }
  let width = p.dim / 4u;
  let base = row * width;
  var squares = 0.0;
  for (var i = li; i < width; i += 64u) { let v = vec4f(x[base + i]); squares += dot(v, v); }
  let rstd = inverseSqrt(sum64(squares, li) / f32(p.dim) + p.epsilon);
  for (var i = li; i < width; i += 64u) { y[base + i] = vec4<${Y}>(vec4f(x[base + i]) * rstd * w[i]); }
}
#else
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= ${COUNT} * p.perRow) { return; }
  let width = p.dim / 4u;
  let base = row * width;
  var squares = 0.0;
  var products = 0.0;
  for (var i = li; i < width; i += 64u) {
    let v = vec4f(x[base + i]);
    squares += dot(v, v);
    products += dot(v, vec4f(dy[base + i]) * w[i]);
  }
  let rstd = inverseSqrt(sum64(squares, li) / f32(p.dim) + p.epsilon);
  let share = sum64(products, li) * rstd * rstd * rstd / f32(p.dim);
  for (var i = li; i < width; i += 64u) {
    var value = vec4f(dy[base + i]) * w[i] * rstd - vec4f(x[base + i]) * share;
#if ACCUMULATE
    value += vec4f(dx[base + i]);
#endif
    dx[base + i] = vec4<${DX}>(value);
#if COPY == 'f16'
    dxCopy[base + i] = vec4<f16>(value);
#endif
  }
}
#endif
