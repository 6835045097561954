// Attention of decoding: each row attends to its tokens' places in the KV cache; a row's own key is already there.
// append:  cacheKeys[place[row]] = k[row], cacheValues[place[row]] = v[row]
// forward: o of one row and GROUP heads that share a key head by a workgroup of 64: 64 places at a time, running maximum.
//          Rows do not meet, so that a row comes out the same in any batch.
// TYPE: element type. UNIT, WIDE: what forward reads keys and values as, by four, and numbers in it; u32 for units of 16
// bytes. DIM: the heads', at most 256, a multiple of WIDE. Sums of TOGETHER heads at a time meet in workgroup memory.
#if append
@group(0) @binding(0) var<storage, read> k: array<vec4<${TYPE}>>;               // [rows, kvHeads · headDim]
@group(0) @binding(1) var<storage, read> v: array<vec4<${TYPE}>>;
@group(0) @binding(2) var<storage, read> place: array<u32>;                     // [rows]
@group(0) @binding(3) var<storage, read_write> cacheKeys: array<vec4<${TYPE}>>; // [places, kvHeads · headDim]
@group(0) @binding(4) var<storage, read_write> cacheValues: array<vec4<${TYPE}>>;
struct Params { dim: u32 }
#else
#include "decode-row.wgsl"
@group(0) @binding(2) var<storage, read> q: array<vec4<${TYPE}>>;               // [rows, heads, headDim]
@group(0) @binding(3) var<storage, read> cacheKeys: array<vec4<${UNIT}>>;
@group(0) @binding(4) var<storage, read> cacheValues: array<vec4<${UNIT}>>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<${TYPE}>>;
struct Params { heads: u32, kvHeads: u32, window: u32, maxPath: u32, scale: f32 }
#endif
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

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
const quads = ${DIM / 4}u;
const units = ${DIM / WIDE}u;  // of a head
const sharers = 64u / units;   // invocations that share a unit of o, each with every so many-th place
var<workgroup> query: array<vec4f, ${GROUP * (DIM / 4)}>;
var<workgroup> weights: array<f32, ${GROUP * 64}>; // scores first
var<workgroup> tops: array<f32, ${GROUP * 8}>;
var<workgroup> places: array<u32, 64>;
var<workgroup> sums: array<vec4f, ${TOGETHER * (WIDE / 4) * 64}>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = wg.x;
  if (row >= batch.rows) { return; }
  let head = wg.y * ${GROUP}u;
  let kvHead = head / (p.heads / p.kvHeads);
  let about = rows[2u * row];
  let length = about.w;
  var start = 0u;
  if (p.window > 0u && length > p.window) { start = length - p.window; }
  for (var i = li; i < ${GROUP}u * quads; i += 64u) {
    query[i] = vec4f(q[(row * p.heads + head) * quads + i]) * p.scale;
  }
  let unit = li % units;
  let sharer = li / units;
#for g in 0..GROUP
  var top${g} = -1e30;
  var total${g} = 0.0;
#for e in 0..WIDE / 4
  var acc${g}_${e} = vec4f(0.0);
#endfor
#endfor
  for (var begin = start; begin < length; begin += 64u) {
    let count = min(64u, length - begin);
    let place = placeOf(about, begin + min(li, count - 1u));
    workgroupBarrier();
    places[li] = place;
#for g in 0..GROUP
    var s${g} = -1e30;
#endfor
    if (li < count) {
      let key = (place * p.kvHeads + kvHead) * units;
#for g in 0..GROUP
      s${g} = 0.0;
#endfor
      for (var u = 0u; u < units; u++) {
        let four = cacheKeys[key + u];
#for e in 0..WIDE / 4
#if UNIT == 'u32'
        let k${e} = vec4f(unpack2x16float(four[${2 * e}]), unpack2x16float(four[${2 * e + 1}]));
#else
        let k${e} = vec4f(four);
#endif
#for g in 0..GROUP
        s${g} += dot(k${e}, query[${g}u * quads + u * ${WIDE / 4}u + ${e}u]);
#endfor
#endfor
      }
    }
#for g in 0..GROUP
    weights[${g * 64}u + li] = s${g};
#endfor
    workgroupBarrier();
    if (li < ${GROUP * 8}u) {
      var most = weights[li * 8u];
      for (var i = 1u; i < 8u; i++) { most = max(most, weights[li * 8u + i]); }
      tops[li] = most;
    }
    workgroupBarrier();
#for g in 0..GROUP
    {
      var most = top${g};
      for (var i = 0u; i < 8u; i++) { most = max(most, tops[${g * 8}u + i]); }
      let shrink = exp(top${g} - most);
      top${g} = most;
      var weight = 0.0;
      if (li < count) { weight = exp(s${g} - most); }
      total${g} = total${g} * shrink + weight;
      weights[${g * 64}u + li] = weight;
#for e in 0..WIDE / 4
      acc${g}_${e} *= shrink;
#endfor
    }
#endfor
    workgroupBarrier();
    if (sharer < sharers) {
      for (var i = sharer; i < count; i += sharers) {
        let four = cacheValues[(places[i] * p.kvHeads + kvHead) * units + unit];
#for e in 0..WIDE / 4
#if UNIT == 'u32'
        let v${e} = vec4f(unpack2x16float(four[${2 * e}]), unpack2x16float(four[${2 * e + 1}]));
#else
        let v${e} = vec4f(four);
#endif
#for g in 0..GROUP
        acc${g}_${e} += weights[${g * 64}u + i] * v${e};
#endfor
#endfor
      }
    }
  }
  workgroupBarrier();
#for g in 0..GROUP
  weights[${g * 64}u + li] = total${g};
#endfor
#for round in 0..ROUNDS
#for g in round * TOGETHER..(round + 1) * TOGETHER < GROUP ? (round + 1) * TOGETHER : GROUP
#for e in 0..WIDE / 4
  sums[(${(g - round * TOGETHER) * (WIDE / 4) + e}u) * 64u + li] = acc${g}_${e};
#endfor
#endfor
  workgroupBarrier();
  for (var i = li; i < ${round < ROUNDS - 1 ? TOGETHER : GROUP - round * TOGETHER}u * quads; i += 64u) {
    let g = i / quads;
    var total = 0.0;
    for (var t = 0u; t < 64u; t++) { total += weights[(${round * TOGETHER}u + g) * 64u + t]; }
    var sum = vec4f(0.0);
    let quad = i % quads;
    let at = (g * ${WIDE / 4}u + quad % ${WIDE / 4}u) * 64u + quad / ${WIDE / 4}u;
    for (var s = 0u; s < sharers; s++) { sum += sums[at + s * units]; }
    o[(row * p.heads + head + ${round * TOGETHER}u) * quads + i] = vec4<${TYPE}>(sum / total);
  }
#if round < ROUNDS - 1
  workgroupBarrier();
#endif
#endfor
}
#endif
