// c[m, n] = alpha · (Σ_k x[m, k] · w(n, k) + Σ_r u[m, r] · v(n, r)) + bias[n] + residual[m, n]
// WT: w is [n, k] and v [n, r] (x·Wᵀ); else w is [k, n] and v [r, n] (dy·W).
// XT (matmul-tensor alone): x is [k, m].
// SPLIT (matmul-tensor alone): slice z of the grid sums its share of k into matrix z of c, a [splits, m, n]; u·v, bias
// and residual go into the first.
// FORMAT other than 'plain' (matmul-rows, matmul-tensor): w is packed, as include/dequantize.wgsl has it.
// X, W, C: element types (u and v are of W's). TURN (matmul-tensor alone): w and v are read by twos. LORA, BIAS, RESIDUAL, ACCUMULATE (c += …): switches.
// COUNT: how many rows of x are live. k, r and n are multiples of 4; rows of w past its end are zeros.
@group(0) @binding(0) var<storage, read> x: array<vec4<${X}>>;
#if FORMAT == 'plain'
@group(0) @binding(1) var<storage, read> w: array<vec${TURN ? 2 : 4}<${W}>>;
#else
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(${3 + 2 * LORA + BIAS + RESIDUAL}) var<storage, read> scales: array<${FORMAT == 'nf4' ? 'f32' : 'vec2f'}>;
#if COLUMNS
@group(0) @binding(${4 + 2 * LORA + BIAS + RESIDUAL}) var<storage, read> columnGroup: array<u32>;
#endif
#endif
@group(0) @binding(2) var<storage, read_write> c: array<vec4<${C}>>;
#if LORA
@group(0) @binding(3) var<storage, read> u: array<vec4<${W}>>;
@group(0) @binding(4) var<storage, read> v: array<vec${TURN ? 2 : 4}<${W}>>;
#endif
#if BIAS
@group(0) @binding(${3 + 2 * LORA}) var<storage, read> bias: array<vec4f>;
#endif
#if RESIDUAL
@group(0) @binding(${3 + 2 * LORA + BIAS}) var<storage, read> residual: array<vec4f>;
#endif
struct Params {
  m: u32,       // rows this dispatch may cover
  n: u32,
  k: u32,
  r: u32,       // 0 without an adapter
  firstRow: u32, // live rows are counted from here
  xRow: u32,    // row of x and u that is row 0
  cRow: u32,    // row of c that is row 0
  cStride: u32, // numbers from one row of c to the next
  cColumn: u32, // column of c, residual and bias, and row of v [n, r], that is column 0
  alpha: f32,
  xStride: u32, // numbers from one row of x to the next, where it is [m, k]
  xColumn: u32, // column of x that is column 0
  uStride: u32, // likewise
  uColumn: u32,
  wStride: u32, // numbers from one row of w to the next, where it is [k, n] (matmul-tensor alone)
  wColumn: u32, // column of w that is column 0
  split: u32,   // numbers of k that a slice sums
  group: u32,   // of a packed w, see there
  groups: u32,
}
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"

fn liveRows() -> u32 {
  let count = ${COUNT};
  return min(count - min(count, p.firstRow), ${XT ? 'p.k' : 'p.m'});
}

// Four neighbouring columns of a row: quad = n / 4.
fn store(row: u32, quad: u32, sum: vec4f) {
  let at = (p.cRow + row) * (p.cStride / 4u) + p.cColumn / 4u + quad;
  var value = sum * p.alpha;
#if SPLIT
  if (row >= p.m) {
    c[at] = vec4<${C}>(value);
    return;
  }
#endif
#if BIAS
  value += bias[p.cColumn / 4u + quad];
#endif
#if RESIDUAL
  value += residual[at];
#endif
#if ACCUMULATE
  value += vec4f(c[at]);
#endif
  c[at] = vec4<${C}>(value);
}
