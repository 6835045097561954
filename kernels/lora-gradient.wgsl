// Gradient of one LoRA matrix, a product over rows: both are "skinny × wide":
//   dA[i, j] = Σ_m du[m, i] · x[m, j]          (LAYOUT 'a': [rank, wide])
//   dB[j, i] = Σ_m dy[m, j] · u[m, i]          (LAYOUT 'b': [wide, rank])
// Rows are split over workgroups in z ("split-K"); each writes alpha times its sum to sums[z].
// An invocation holds 16 ranks × 4 columns. TYPE of skinny, WIDE of wide. rank, wide and columns: multiples of 4.
@group(0) @binding(0) var<storage, read> skinny: array<vec4<${TYPE}>>;    // [rows, skinnyStride]
@group(0) @binding(1) var<storage, read> wide: array<vec4<${WIDE}>>;      // [rows, columns]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;       // [splits, rank · columns]
struct Params { rank: u32, columns: u32, rowsPerSplit: u32, alpha: f32, skinnyStride: u32, skinnyColumn: u32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"

@compute @workgroup_size(${WG})
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let columns = p.columns / 4u;
  let quad = wg.x * ${WG}u + li;
  let at = min(quad, columns - 1u);
  let width = p.rank / 4u;
  let first = wg.y * 4u;
#for i in 0..4
  let r${i} = p.skinnyColumn / 4u + min(first + ${i}u, width - 1u);
#endfor
#for i in 0..16
  var c${i} = vec4f(0.0);
#endfor
  let end = min(batch.rows, (wg.z + 1u) * p.rowsPerSplit);
  for (var m = wg.z * p.rowsPerSplit; m < end; m++) {
    let b = vec4f(wide[m * columns + at]);
#for i in 0..4
    {
      let a = vec4f(skinny[m * (p.skinnyStride / 4u) + r${i}]);
#for e in 0..4
      c${i * 4 + e} = fma(vec4f(a[${e}]), b, c${i * 4 + e});
#endfor
    }
#endfor
  }
  if (quad >= columns) { return; }
  let base = wg.z * p.rank * p.columns;
#for i in 0..16
  if (first * 4u + ${i}u < p.rank) {
    let value = c${i} * p.alpha;
#for e in 0..4
#if LAYOUT == 'a'
    sums[base + (first * 4u + ${i}u) * p.columns + quad * 4u + ${e}u] = value[${e}];
#else
    sums[base + (quad * 4u + ${e}u) * p.rank + first * 4u + ${i}u] = value[${e}];
#endif
#endfor
  }
#endfor
}
