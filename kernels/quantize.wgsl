// Elements of a checkpoint to a packed matrix (FORMAT, its codes and scales: include/dequantize.wgsl; FROM and raw:
// include/elements.wgsl). One invocation quantises one group. A group with a NaN or an infinity gets the scale 3e38.
//   'nf4': as bitsandbytes: the group's largest magnitude is the scale, a number gets the nearest level
//   'affine4', 'affine8': as mx.quantize: the extreme of the larger magnitude is the offset, and zero has a code; codes
//   follow from scale and offset in f32, which are then stored as FROM's type holds them
@group(0) @binding(0) var<storage, read> raw: array<u32>;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> scales: array<${FORMAT == 'nf4' ? 'f32' : 'vec2f'}>;
struct Params {
  count: u32, // elements of raw, a multiple of 8
  first: u32, // where they go in the flattened matrix, a multiple of the group
  group: u32,
}
@group(0) @binding(20) var<uniform> p: Params;
#include "elements.wgsl"
#include "fold.wgsl"
#if FORMAT == 'nf4'
#include "nf4.wgsl"
#else
const steps = ${FORMAT == 'affine4' ? 15 : 255}.0;
#endif

fn sound(v: vec2f) -> bool {
  return all((bitcast<vec2u>(v) & vec2u(0x7f800000u)) != vec2u(0x7f800000u));
}

#if FORMAT != 'nf4'
// x as FROM holds it, ties to even: a power of two shifts the bits that stay above the point. No subnormals of bf16.
fn stored(x: f32) -> f32 {
#if FROM == 'f32'
  return x;
#else
  let exponent = max((bitcast<u32>(x) >> 23u) & 255u, ${FROM == 'f16' ? 113 : 8}u);
  let up = bitcast<f32>((${FROM == 'f16' ? 264 : 261}u - exponent) << 23u);
  let down = bitcast<f32>((exponent - ${FROM == 'f16' ? 10 : 7}u) << 23u);
  return round(x * up) * down;
#endif
}
#endif

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  let start = i * p.group;
  if (start >= p.count) { return; }
  let end = min(start + p.group, p.count);
  let at = p.first / p.group + i;
  var ok = true;
#if FORMAT == 'nf4'
  var scale = 0.0;
  for (var e = start; e < end; e += 2u) {
    let v = elements(e / 2u);
    ok = ok && sound(v);
    scale = max(scale, max(abs(v.x), abs(v.y)));
  }
  scales[at] = select(3e38, scale, ok);
  // Half-way between neighbouring levels.
#for l in 1..16
  let limit${l} = (nf4[${l - 1}] + nf4[${l}]) * 0.5 * scale;
#endfor
#else
  let v0 = elements(start / 2u);
  var low = v0.x;
  var high = v0.x;
  for (var e = start; e < end; e += 2u) {
    let v = elements(e / 2u);
    ok = ok && sound(v);
    low = min(low, min(v.x, v.y));
    high = max(high, max(v.x, v.y));
  }
  let lowEdge = abs(low) > abs(high);
  let edge = select(high, low, lowEdge);
  let even = max((high - low) / steps, 1e-7) * select(-1.0, 1.0, lowEdge);
  let zero = round(edge / even);
  let scale = select(edge / select(zero, 1.0, zero == 0.0), even, zero == 0.0);
  let offset = select(edge, 0.0, zero == 0.0);
  scales[at] = select(vec2f(3e38, 0.0), vec2f(stored(scale), stored(offset)), ok);
#endif
  for (var e = start; e < end; e += ${FORMAT == 'affine8' ? 4 : 8}u) {
    var word = 0u;
#for j in 0..(FORMAT == 'affine8' ? 2 : 4)
    {
      let v = elements(e / 2u + ${j}u);
#if FORMAT == 'nf4'
      var code = vec2u(0u);
#for l in 1..16
      code += vec2u(v > vec2f(limit${l}));
#endfor
#else
      let code = vec2u(clamp(round((v - offset) / scale), vec2f(0.0), vec2f(steps)));
#endif
      word |= (code.x << ${FORMAT == 'affine8' ? 16 * j : 8 * j}u) | (code.y << ${FORMAT == 'affine8' ? 16 * j + 8 : 8 * j + 4}u);
    }
#endfor
    codes[(p.first + e) / ${FORMAT == 'affine8' ? 4 : 8}u] = word;
  }
}
