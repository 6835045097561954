enable subgroups;
// Matmul x·wᵀ of a few rows, as in decoding, where reading w is all the work: a workgroup of WG owns four columns and
// all ROWS rows; its invocations lie along k, 16 bytes of each row of w at a time, and add up over subgroups.
// Meaning and bindings: include/matmul.wgsl, with x, w, u and v read in units of 16 bytes, WIDE numbers each. A packed
// w is unpacked as it is read (WIDE 8).
#include "matmul.wgsl"
#if FORMAT != 'plain'
#include "dequantize.wgsl"
#endif
var<workgroup> parts: array<array<f32, ${ROWS * 4}>, ${WG / 4}>; // of each subgroup, which has at least 4 lanes

fn product(a: vec4<${X}>, b: vec4<${X}>) -> f32 {
#if WIDE == 8
  return dot(unpack2x16float(a.x), unpack2x16float(b.x)) + dot(unpack2x16float(a.y), unpack2x16float(b.y))
    + dot(unpack2x16float(a.z), unpack2x16float(b.z)) + dot(unpack2x16float(a.w), unpack2x16float(b.w));
#else
  return dot(a, b);
#endif
}

#if FORMAT != 'plain'

fn unpackedProduct(a: vec4u, b: array<vec4f, 2>) -> f32 {
  return dot(vec4f(unpack2x16float(a.x), unpack2x16float(a.y)), b[0])
    + dot(vec4f(unpack2x16float(a.z), unpack2x16float(a.w)), b[1]);
}
#endif

@compute @workgroup_size(${WG})
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32, @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32) {
  let rows = liveRows();
  if (rows == 0u) { return; }
#if FORMAT != 'plain'
  prepare(li);
#endif
#for e in 0..ROWS * 4
  var c${e} = 0.0;
#endfor
#for s in 0..1 + LORA
  {
    let depth = ${s == 0 ? 'p.k' : 'p.r'} / ${WIDE}u;
    let xDepth = ${s == 0 ? 'p.xStride' : 'p.uStride'} / ${WIDE}u;
    let xFirst = ${s == 0 ? 'p.xColumn' : 'p.uColumn'} / ${WIDE}u;
    for (var at = li; at < depth; at += ${WG}u) {
#for j in 0..4
#if s == 0 && FORMAT != 'plain'
      let b${j} = unpacked((wg.x * 4u + ${j}u) * depth + at);
#else
      let b${j} = ${s == 0 ? 'w[(' : 'v[(p.cColumn + '}wg.x * 4u + ${j}u) * depth + at];
#endif
#endfor
#for i in 0..ROWS
      {
        let a = ${s == 0 ? 'x' : 'u'}[(p.xRow + min(${i}u, rows - 1u)) * xDepth + xFirst + at];
#for j in 0..4
        c${i * 4 + j} += ${s == 0 && FORMAT != 'plain' ? 'unpackedProduct' : 'product'}(a, b${j});
#endfor
      }
#endfor
    }
  }
#endfor
#for e in 0..ROWS * 4
  parts[subgroup][${e}] = subgroupAdd(c${e});
#endfor
  workgroupBarrier();
  if (li < rows) {
    var sum = vec4f(0.0);
    for (var s = 0u; s < subgroups; s++) {
      sum += vec4f(parts[s][li * 4u], parts[s][li * 4u + 1u], parts[s][li * 4u + 2u], parts[s][li * 4u + 3u]);
    }
    store(li, wg.x, sum);
  }
}
