// Weight of every edge of one chunk of rows in the gradient of the clipped policy loss (Schulman et al. 2017), for
// linear-cross-entropy's backward pass: w = Σ A·ρ over those of the edge's samples that are not clipped, with
// ρ = exp(log p − old log p); clipped is ρ > 1 + ε where A > 0, ρ < 1 − ε where A < 0. One invocation a row.
@group(0) @binding(0) var<storage, read> edgeStart: array<u32>;        // [logit rows + 1]
@group(0) @binding(1) var<storage, read> edgeLogprob: array<f32>;      // [edges]
@group(0) @binding(2) var<storage, read> sampleStart: array<u32>;      // [edges + 1]
@group(0) @binding(3) var<storage, read> samples: array<vec2f>;        // [samples] old log p, advantage
@group(0) @binding(4) var<storage, read_write> edgeWeight: array<f32>; // [edges]
struct Params { chunkRows: u32, firstRow: u32, cliprange: f32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg) * 64u + li;
  if (row >= min(batch.logitRows - min(batch.logitRows, p.firstRow), p.chunkRows)) { return; }
  let end = edgeStart[p.firstRow + row + 1u];
  for (var e = edgeStart[p.firstRow + row]; e < end; e++) {
    var weight = 0.0;
    for (var s = sampleStart[e]; s < sampleStart[e + 1u]; s++) {
      let ratio = exp(min(edgeLogprob[e] - samples[s].x, 60.0)); // WGSL may assume that infinities do not occur
      let advantage = samples[s].y;
      let clipped = select((ratio < 1.0 - p.cliprange), (ratio > 1.0 + p.cliprange), advantage > 0.0);
      if (!clipped) { weight += advantage * ratio; }
    }
    edgeWeight[e] = weight;
  }
}
