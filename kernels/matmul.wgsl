// Matmul in registers, for GPUs without matrix units and for shapes that these do not take: a workgroup of 256 owns a
// tile of BM × BN and steps through k by 16 with both operands staged in workgroup memory as f32; an invocation holds
// BM/16 × BN/16 results in registers.
// BM, BN: 16, 32, 64 or 128 (BN at least 64).
#include "matmul.wgsl"
var<workgroup> xs: array<f32, ${BM * 16}>;       // [16 k][BM]
var<workgroup> ws: array<vec4f, ${BN * 4}>;      // [16 k][BN / 4]

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let rows = liveRows();
  let m0 = wg.y * ${BM}u;
  if (m0 >= rows) { return; }
  let quads = p.n / 4u;
  let quad0 = wg.x * ${BN / 4}u;
  let ty = li / 16u;
  let tx = li % 16u;
#for i in 0..BM / 16
#for j in 0..BN / 64
  var c${i}_${j} = vec4f(0.0);
#endfor
#endfor
#for s in 0..1 + LORA
  {
    let depth = ${s == 0 ? 'p.k' : 'p.r'} / 4u;
    let xDepth = ${s == 0 ? 'p.xStride' : 'p.uStride'} / 4u;
    let xFirst = ${s == 0 ? 'p.xColumn' : 'p.uColumn'} / 4u;
    for (var k0 = 0u; k0 < depth; k0 += 4u) {
      workgroupBarrier();
      for (var e = li; e < ${BM * 4}u; e += 256u) {
        let m = e / 4u;
        let k = e % 4u;
        var value = vec4f(0.0);
        if (m0 + m < rows && k0 + k < depth) { value = vec4f(${s == 0 ? 'x' : 'u'}[(p.xRow + m0 + m) * xDepth + xFirst + k0 + k]); }
#for i in 0..4
        xs[(k * 4u + ${i}u) * ${BM}u + m] = value[${i}];
#endfor
      }
#if !WT
      for (var e = li; e < ${BN * 4}u; e += 256u) {
        let k = e / ${BN / 4}u;
        let q = e % ${BN / 4}u;
        var value = vec4f(0.0);
        if (quad0 + q < quads && k0 * 4u + k < depth * 4u) { value = vec4f(${s == 0 ? 'w' : 'v'}[(k0 * 4u + k) * quads + quad0 + q]); }
        ws[k * ${BN / 4}u + q] = value;
      }
#else
      // Four columns by four of k, turned in registers: where a driver writes one component of a vec4 by an index that it
      // does not know, it may write all four (D3D12), over what a neighbour writes.
      for (var e = li; e < ${BN}u; e += 256u) {
        let q = e / 4u;
        let k = e % 4u;
        let inside = quad0 + q < quads && k0 + k < depth;
#for i in 0..4
        var from${i} = vec4f(0.0);
        if (inside) { from${i} = vec4f(${s == 0 ? 'w' : 'v'}[(${s == 0 ? '' : 'p.cColumn + '}(quad0 + q) * 4u + ${i}u) * depth + k0 + k]); }
#endfor
#for i in 0..4
        ws[(k * 4u + ${i}u) * ${BN / 4}u + q] = vec4f(from0[${i}], from1[${i}], from2[${i}], from3[${i}]);
#endfor
      }
#endif
      workgroupBarrier();
      for (var k = 0u; k < 16u; k++) {
#for j in 0..BN / 64
        let b${j} = ws[k * ${BN / 4}u + tx + ${j * 16}u];
#endfor
#for i in 0..BM / 16
        {
          let a = vec4f(xs[k * ${BM}u + ty * ${BM / 16}u + ${i}u]);
#for j in 0..BN / 64
          c${i}_${j} = fma(a, b${j}, c${i}_${j});
#endfor
        }
#endfor
      }
    }
  }
#endfor
#for i in 0..BM / 16
#for j in 0..BN / 64
  if (m0 + ty * ${BM / 16}u + ${i}u < rows && quad0 + tx + ${j * 16}u < quads) {
    store(m0 + ty * ${BM / 16}u + ${i}u, quad0 + tx + ${j * 16}u, c${i}_${j});
  }
#endfor
#endfor
}
