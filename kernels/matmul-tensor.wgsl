enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if PIN
enable subgroup_size_control;
#endif
// Matmul on matrix units (subgroup matrices): f16 operands, f32 sums. Meaning and bindings: include/matmul.wgsl, with
// x, w, u and v read as units of 8 halves; k, r and n are multiples of 8.
// A workgroup of GM × GN subgroups of SG lanes owns BM × BN results and steps through k by BK; a subgroup holds
// TM × TN matrices of MM × MN, a product is MK deep. Tiles are staged as they lie in memory, in rows PAD units further
// apart than they are long against bank conflicts; a transpose is a column-major load. Rows past the live ones, columns
// past n and k past the end are staged as zeros. Offsets of matrix loads count units. PIN: fix the subgroup size where the device has several.
#include "matmul.wgsl"
alias Left = subgroup_matrix_left<f16, ${MK}, ${MM}>;    // columns, rows
alias Right = subgroup_matrix_right<f16, ${MN}, ${MK}>;
alias Result = subgroup_matrix_result<f32, ${MN}, ${MM}>;
const threads = ${GM * GN * SG}u;
const xUnits = ${BK / 8}u;
const xStride = ${BK / 8 + PAD}u;
const wRows = ${FORM == 'nt' ? BN : BK}u;
const wUnits = ${(FORM == 'nt' ? BK : BN) / 8}u;
const wStride = ${(FORM == 'nt' ? BK : BN) / 8 + PAD}u;
var<workgroup> xs: array<vec4u, ${BM * (BK / 8 + PAD)}>;
var<workgroup> ws: array<vec4u, ${FORM == 'nt' ? BN * (BK / 8 + PAD) : BK * (BN / 8 + PAD)}>;
var<workgroup> results: array<f32, ${GM * GN * MM * MN}>;

@compute @workgroup_size(${GM * GN * SG}) ${PIN ? '@subgroup_size(' + SG + ')' : ''}
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
  let rows = liveRows();
  let m0 = wg.y * ${BM}u;
  if (m0 >= rows) { return; }
  let n0 = wg.x * ${BN}u;
  let gm = (subgroup / ${GN}u) * ${TM * MM}u;
  let gn = (subgroup % ${GN}u) * ${TN * MN}u;
#for i in 0..TM
#for j in 0..TN
  var c${i}_${j}: Result;
#endfor
#endfor
#for s in 0..1 + LORA
  {
    let depth = ${s == 0 ? 'p.k' : 'p.r'} / 8u;
    for (var k0 = 0u; k0 < depth; k0 += xUnits) {
      workgroupBarrier();
      for (var e = li; e < ${BM}u * xUnits; e += threads) {
        let row = e / xUnits;
        let unit = e % xUnits;
        var value = vec4u(0u);
        if (m0 + row < rows && k0 + unit < depth) { value = ${s == 0 ? 'x' : 'u'}[(p.xRow + m0 + row) * depth + k0 + unit]; }
        xs[row * xStride + unit] = value;
      }
      for (var e = li; e < wRows * wUnits; e += threads) {
        let row = e / wUnits;
        let unit = e % wUnits;
        var value = vec4u(0u);
#if FORM == 'nt'
        if (n0 + row < p.n && k0 + unit < depth) { value = ${s == 0 ? 'w' : 'v'}[(n0 + row) * depth + k0 + unit]; }
#else
        if (k0 * 8u + row < depth * 8u && n0 / 8u + unit < p.n / 8u) { value = ${s == 0 ? 'w' : 'v'}[(k0 * 8u + row) * (p.n / 8u) + n0 / 8u + unit]; }
#endif
        ws[row * wStride + unit] = value;
      }
      workgroupBarrier();
#for step in 0..BK / MK
      {
#for i in 0..TM
        let a${i} = subgroupMatrixLoad<Left, row_major>(&xs, (gm + ${i * MM}u) * xStride + ${step * MK / 8}u, xStride);
#endfor
#for j in 0..TN
        {
#if FORM == 'nt'
          let b = subgroupMatrixLoad<Right, col_major>(&ws, (gn + ${j * MN}u) * wStride + ${step * MK / 8}u, wStride);
#else
          let b = subgroupMatrixLoad<Right, row_major>(&ws, ${step * MK}u * wStride + gn / 8u + ${j * MN / 8}u, wStride);
#endif
#for i in 0..TM
          c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b, c${i}_${j});
#endfor
        }
#endfor
      }
#endfor
    }
  }
#endfor
  // Matrices have no element access: results leave through workgroup memory, one matrix of each subgroup at a time.
#for i in 0..TM
#for j in 0..TN
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&results, subgroup * ${MM * MN}u, c${i}_${j}, ${MN}u);
  workgroupBarrier();
  for (var e = lane; e < ${MM * MN / 4}u; e += ${SG}u) {
    let row = m0 + gm + ${i * MM}u + e / ${MN / 4}u;
    let quad = (n0 + gn) / 4u + ${j * MN / 4}u + e % ${MN / 4}u;
    let at = subgroup * ${MM * MN}u + e * 4u;
    if (row < rows && quad < p.n / 4u) { store(row, quad, vec4f(results[at], results[at + 1u], results[at + 2u], results[at + 3u])); }
  }
#endfor
#endfor
}
