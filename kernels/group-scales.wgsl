// Scales of a quantised checkpoint as include/dequantize.wgsl reads them, a pass for each way to store them. D: type of
// stored scales and biases, 'f32', 'f16' or 'bf16'. An invocation makes one scale or pair.
#if nested
@group(0) @binding(0) var<storage, read> absmax: array<u32>;           // bytes
@group(0) @binding(1) var<storage, read> map: array<f32>;              // [256]
@group(0) @binding(2) var<storage, read> nestedAbsmax: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
#else
@group(0) @binding(0) var<storage, read> scales: array<u32>;
#if biased
@group(0) @binding(1) var<storage, read> biases: array<u32>;
#else
@group(0) @binding(1) var<storage, read> zeros: array<u32>;
#endif
@group(0) @binding(2) var<storage, read_write> y: array<vec2f>;
#endif
struct Params {
  count: u32,   // to make
  first: u32,   // of y, the first made (zeroed: of its rows)
#if nested
  block: u32,   // scales that share one of nestedAbsmax
  place: u32,   // of all scales of the matrix, the first made
  offset: f32,
#elif zeroed
  columns: u32, // groups of a row that are there
  row: u32,     // of the matrix that is row 0 of y
  n: u32,       // rows of the matrix
  width: u32,   // groups of a row of y
  add: u32,     // to each word of zeros
#endif
}
@group(0) @binding(20) var<uniform> p: Params;
#include "awq.wgsl"
#include "fold.wgsl"

// Number i, of which this is the word.
fn number(word: u32, i: u32) -> f32 {
#if D == 'f32'
  return bitcast<f32>(word);
#elif D == 'f16'
  return unpack2x16float(word)[i % 2u];
#else
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, i % 2u == 1u));
#endif
}

// scale = map[absmax] · nestedAbsmax + offset (bitsandbytes: double quantisation, QLoRA section 3).
#if nested
@compute @workgroup_size(64)
fn nested(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= p.count) { return; }
  let code = (absmax[i / 4u] >> (8u * (i % 4u))) & 255u;
  y[p.first + i] = map[code] * nestedAbsmax[(p.place + i) / p.block] + p.offset;
}
#endif

// (scale, bias), as MLX stores them.
#if biased
@compute @workgroup_size(64)
fn biased(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= p.count) { return; }
  y[p.first + i] = vec2f(number(scales[i / ${D == 'f32' ? 1 : 2}u], i), number(biases[i / ${D == 'f32' ? 1 : 2}u], i));
}
#endif

// (scale, −scale · zero) of scales [columns, n] and zeros [columns, n / 8], eight to a word. ORDER: 'gptq' or 'awq'.
#if zeroed
@compute @workgroup_size(64)
fn zeroed(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= p.count) { return; }
  let rows = p.count / p.columns;
  let row = p.row + i % rows;
  let column = i / rows;
  let at = column * p.n + row;
  let scale = number(scales[at / ${D == 'f32' ? 1 : 2}u], at);
  let zero = ((zeros[column * (p.n / 8u) + row / 8u] + p.add) >> ${ORDER == 'awq' ? 'awqShift(row)' : '(4u * (row % 8u))'}) & 15u;
  y[(i % rows) * p.width + p.first + column] = vec2f(scale, -scale * f32(zero));
}
#endif
