// Attention of decoding: each row attends to a list of places in the KV cache; a row's own key is already there.
// append:  cacheKeys[place[row]] = k[row], cacheValues[place[row]] = v[row]
// forward: o of one (row, head) by a workgroup of 64: 64 places at a time, running maximum.
// paths: [rows, maxLength] places from the first token to the row's own; lengths: how many of them count.
// TYPE: element type. headDim: at most 256, a multiple of 4.
#if append
@group(0) @binding(0) var<storage, read> k: array<vec4<${TYPE}>>;               // [rows, kvHeads · headDim]
@group(0) @binding(1) var<storage, read> v: array<vec4<${TYPE}>>;
@group(0) @binding(2) var<storage, read> place: array<u32>;                     // [rows]
@group(0) @binding(3) var<storage, read_write> cacheKeys: array<vec4<${TYPE}>>; // [places, kvHeads · headDim]
@group(0) @binding(4) var<storage, read_write> cacheValues: array<vec4<${TYPE}>>;
struct Params { dim: u32 }
#else
@group(0) @binding(0) var<storage, read> q: array<vec4<${TYPE}>>;               // [rows, heads, headDim]
@group(0) @binding(1) var<storage, read> cacheKeys: array<vec4<${TYPE}>>;
@group(0) @binding(2) var<storage, read> cacheValues: array<vec4<${TYPE}>>;
@group(0) @binding(3) var<storage, read> paths: array<u32>;
@group(0) @binding(4) var<storage, read> lengths: array<u32>;                   // [rows]
@group(0) @binding(5) var<storage, read_write> o: array<vec4<${TYPE}>>;
struct Params { heads: u32, kvHeads: u32, headDim: u32, window: u32, maxLength: u32, scale: f32 }
#endif
@group(1) @binding(0) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"
#if forward
#include "reduce.wgsl"
var<workgroup> weights: array<f32, 64>;
var<workgroup> places: array<u32, 64>;
#endif

#if append
@compute @workgroup_size(64)
fn append(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= batch.rows) { return; }
  let width = p.dim / 4u;
  for (var i = li; i < width; i += 64u) {
    cacheKeys[place[row] * width + i] = k[row * width + i];
    cacheValues[place[row] * width + i] = v[row * width + i];
  }
}
#else
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = wg.x;
  let head = wg.y;
  if (row >= batch.rows) { return; }
  let width = p.headDim / 4u;
  let kvHead = head / (p.heads / p.kvHeads);
  let length = lengths[row];
  var start = 0u;
  if (p.window > 0u && length > p.window) { start = length - p.window; }
  var top = -1e30;
  var total = 0.0;
  var acc = vec4f(0.0);
  for (var begin = start; begin < length; begin += 64u) {
    var s = -1e30;
    let place = paths[row * p.maxLength + min(begin + li, length - 1u)];
    if (begin + li < length) {
      let b = (place * p.kvHeads + kvHead) * width;
      let a = (row * p.heads + head) * width;
      s = 0.0;
      for (var d = 0u; d < width; d++) { s += dot(vec4f(q[a + d]), vec4f(cacheKeys[b + d])); }
      s *= p.scale;
    }
    let newTop = max(top, max64(s, li));
    let shrink = exp(top - newTop);
    top = newTop;
    var weight = 0.0;
    if (begin + li < length) { weight = exp(s - top); }
    total = total * shrink + sum64(weight, li);
    weights[li] = weight;
    places[li] = place;
    workgroupBarrier();
    acc *= shrink;
    if (li < width) {
      let count = min(64u, length - begin);
      for (var i = 0u; i < count; i++) {
        acc += weights[i] * vec4f(cacheValues[(places[i] * p.kvHeads + kvHead) * width + li]);
      }
    }
  }
  if (li < width) { o[(row * p.heads + head) * width + li] = vec4<${TYPE}>(acc / total); }
}
#endif
