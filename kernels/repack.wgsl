// Four-bit codes of a quantised checkpoint in natural order (include/dequantize.wgsl). ORDER says how `raw` holds them:
//   'bitsandbytes': numbers in order, the first of a byte in its high half
//   'gptq': [k / 8, n] words, each 8 numbers of one row of the matrix in natural order
//   'awq': [k, n / 8] words, each one column's numbers of 8 rows: rows 0, 2, 4, 6, 1, 3, 5, 7
// For the latter two `raw` holds some of the columns, all n rows of them. An invocation makes a word.
@group(0) @binding(0) var<storage, read> raw: array<u32>;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, k / 8]
struct Params {
  words: u32,   // to make
  first: u32,   // of codes' row (bitsandbytes: of codes)
  columns: u32, // words of a row that raw holds
  row: u32,     // of raw that is row 0 of codes
  n: u32,
  width: u32,   // words of a row
}
@group(0) @binding(20) var<uniform> p: Params;
#include "awq.wgsl"
#include "fold.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= p.words) { return; }
#if ORDER == 'bitsandbytes'
  let word = raw[i];
  codes[p.first + i] = ((word & 0x0f0f0f0fu) << 4u) | ((word >> 4u) & 0x0f0f0f0fu);
#else
  // Neighbouring invocations read neighbouring words.
  let rows = p.words / p.columns;
  let row = i % rows;
  let column = i / rows;
#if ORDER == 'gptq'
  let word = raw[column * p.n + p.row + row];
#else
  let shift = awqShift(p.row + row);
  var word = 0u;
  for (var e = 0u; e < 8u; e++) {
    word |= ((raw[(column * 8u + e) * (p.n / 8u) + (p.row + row) / 8u] >> shift) & 15u) << (4u * e);
  }
#endif
  codes[row * p.width + p.first + column] = word;
#endif
}
