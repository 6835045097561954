// Weights of a packed matrix [n, k], k a multiple of 8, in groups of p.group numbers (a multiple of 8) of the flattened
// matrix. Codes lie in natural order: number i of a word in bits 4i (8i) and up. FORMAT:
//   'affine4', 'affine8': code · scale + offset, scales (scale, offset)
//   'nf4': nf4[code] · scale
// COLUMNS (affine4): a column's group is columnGroup[column] of its row's p.groups instead (GPTQ with act-order).
// Call prepare() first, in uniform control flow.
#if FORMAT == 'nf4'
#include "nf4.wgsl"
var<workgroup> levels: array<f32, 16>;

fn prepare(li: u32) {
  if (li < 16u) { levels[li] = nf4[li]; }
  workgroupBarrier();
}
#else
fn prepare(li: u32) {}
#endif

// Eight neighbours as they lie: codes, and the scale that they share.
struct Packed { codes: vec2u, scale: vec2f }

// Numbers 8i .. 8i + 7 of the flattened matrix; with COLUMNS without their scales.
fn packedUnit(i: u32) -> Packed {
#if FORMAT == 'affine8'
  return Packed(vec2u(codes[2u * i], codes[2u * i + 1u]), scales[i * 8u / p.group]);
#elif COLUMNS
  return Packed(vec2u(codes[i], 0u), vec2f());
#elif FORMAT == 'nf4'
  return Packed(vec2u(codes[i], 0u), vec2f(scales[i * 8u / p.group], 0.0));
#else
  return Packed(vec2u(codes[i], 0u), scales[i * 8u / p.group]);
#endif
}

fn levelsOf(codes: vec2u) -> array<vec4f, 2> {
#if FORMAT == 'affine8'
  return array<vec4f, 2>(
    vec4f((vec4u(codes.x) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u)),
    vec4f((vec4u(codes.y) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u)));
#else
  let low = (vec4u(codes.x) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u);
  let high = (vec4u(codes.x) >> vec4u(16u, 20u, 24u, 28u)) & vec4u(15u);
#if FORMAT == 'nf4'
  return array<vec4f, 2>(
    vec4f(levels[low.x], levels[low.y], levels[low.z], levels[low.w]),
    vec4f(levels[high.x], levels[high.y], levels[high.z], levels[high.w]));
#else
  return array<vec4f, 2>(vec4f(low), vec4f(high));
#endif
#endif
}

fn unpack(unit: Packed) -> array<vec4f, 2> {
  let level = levelsOf(unit.codes);
#if FORMAT == 'nf4'
  return array<vec4f, 2>(level[0] * unit.scale.x, level[1] * unit.scale.x);
#else
  let s = unit.scale;
  return array<vec4f, 2>(fma(level[0], vec4f(s.x), vec4f(s.y)), fma(level[1], vec4f(s.x), vec4f(s.y)));
#endif
}

// Numbers 8i .. 8i + 7.
fn unpacked(i: u32) -> array<vec4f, 2> {
#if COLUMNS
  let level = levelsOf(packedUnit(i).codes);
  let column = i * 8u % p.k;
  let first = i * 8u / p.k * p.groups;
#for e in 0..8
  let s${e} = scales[first + columnGroup[column + ${e}u]];
#endfor
  return array<vec4f, 2>(
    fma(level[0], vec4f(s0.x, s1.x, s2.x, s3.x), vec4f(s0.y, s1.y, s2.y, s3.y)),
    fma(level[1], vec4f(s4.x, s5.x, s6.x, s7.x), vec4f(s4.y, s5.y, s6.y, s7.y)));
#else
  return unpack(packedUnit(i));
#endif
}
