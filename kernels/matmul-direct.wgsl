// Matmul for drivers that run on CPU cores: no shared tiles and no barriers. A subgroup's lanes lie along n, all of
// them read the same x (a scalar load), and w comes straight from cache. An invocation holds TM rows of
// TN quads of columns. WG invocations a workgroup.
#include "matmul.wgsl"

@compute @workgroup_size(${WG})
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let rows = liveRows();
  let m0 = wg.y * ${TM}u;
  if (m0 >= rows) { return; }
  let quads = p.n / 4u;
#for j in 0..TN
  let q${j} = min(wg.x * ${WG * TN}u + ${j * WG}u + li, quads - 1u);
#endfor
#for i in 0..TM
  let row${i} = p.xRow + min(m0 + ${i}u, rows - 1u);
#for j in 0..TN
  var c${i}_${j} = vec4f(0.0);
#endfor
#endfor
#for s in 0..1 + LORA
  {
    let depth = ${s == 0 ? 'p.k' : 'p.r'} / 4u;
    let xDepth = ${s == 0 ? 'p.xStride' : 'p.uStride'} / 4u;
    let xFirst = ${s == 0 ? 'p.xColumn' : 'p.uColumn'} / 4u;
    for (var k = 0u; k < depth; k++) {
#for i in 0..TM
      let x${i} = vec4f(${s == 0 ? 'x' : 'u'}[row${i} * xDepth + xFirst + k]);
#endfor
#for j in 0..TN
#for e in 0..4
      {
#if !WT
        let b = vec4f(${s == 0 ? 'w' : 'v'}[(k * 4u + ${e}u) * quads + q${j}]);
#for i in 0..TM
        c${i}_${j} = fma(vec4f(x${i}[${e}]), b, c${i}_${j});
#endfor
#else
        let b = vec4f(${s == 0 ? 'w' : 'v'}[(${s == 0 ? '' : 'p.cColumn + '}q${j} * 4u + ${e}u) * depth + k]);
#for i in 0..TM
        c${i}_${j}[${e}] = fma(x${i}.x, b.x, fma(x${i}.y, b.y, fma(x${i}.z, b.z, fma(x${i}.w, b.w, c${i}_${j}[${e}]))));
#endfor
#endif
      }
#endfor
#endfor
    }
  }
#endfor
#for j in 0..TN
  if (wg.x * ${WG * TN}u + ${j * WG}u + li < quads) {
#for i in 0..TM
    if (m0 + ${i}u < rows) { store(m0 + ${i}u, q${j}, c${i}_${j}); }
#endfor
  }
#endfor
}
