// Cross-entropy on the edges of a trie, over one chunk of rows; the vocabulary may lie in several parts, each with its
// own logits. A row's edges are edgeStart[row] .. edgeStart[row + 1].
// stats:    of this part: statistics[row, part] = (max, Σ exp(logit - max)), with ENTROPY also Σ logit · exp(logit - max)
// logprobs: edgeLogprob[e] = logit[target] - lse, for edges whose target lies in this part; with ENTROPY also
//           rowEntropy[row] = lse − Σ p · logit
// backward: gradient = gradScale · (Σw · softmax − Σ w · onehot), in operand type; columns past the vocabulary are 0
// Rows count from firstRow among all logit rows; logits, gradient and statistics are local to the chunk.
#if stats || backward || logprobs
@group(0) @binding(0) var<storage, read> logits: array<f32>;               // [chunk rows, stride]
#endif
#if stats
@group(0) @binding(1) var<storage, read_write> statistics: array<${ENTROPY ? 'vec3f' : 'vec2f'}>; // [chunk rows, parts]
#else
@group(0) @binding(1) var<storage, read> statistics: array<${ENTROPY ? 'vec3f' : 'vec2f'}>;
@group(0) @binding(2) var<storage, read> edgeStart: array<u32>;            // [logit rows + 1]
@group(0) @binding(3) var<storage, read> edgeTarget: array<u32>;           // [edges]
#endif
#if logprobs
@group(0) @binding(4) var<storage, read_write> edgeLogprob: array<f32>;    // [edges]
#if ENTROPY
@group(0) @binding(5) var<storage, read_write> rowEntropy: array<f32>;     // [logit rows]
#endif
#endif
#if backward
@group(0) @binding(4) var<storage, read> edgeWeight: array<f32>;           // [edges]
@group(0) @binding(5) var<storage, read_write> gradient: array<${TYPE}>;   // [chunk rows, stride]
#endif
struct Params {
  chunkRows: u32,
  firstRow: u32,
  count: u32,      // vocabulary entries in this part
  first: u32,      // token id of the first of them
  stride: u32,     // count rounded up
  part: u32,
  parts: u32,
}
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"
#if stats
#include "reduce.wgsl"
#endif

fn liveRows() -> u32 {
  return min(batch.logitRows - min(batch.logitRows, p.firstRow), p.chunkRows);
}

#if !stats
fn logSumExp(row: u32) -> f32 {
  var top = -1e30;
  for (var i = 0u; i < p.parts; i++) { top = max(top, statistics[row * p.parts + i].x); }
  var sum = 0.0;
  for (var i = 0u; i < p.parts; i++) {
    let one = statistics[row * p.parts + i];
    sum += one.y * exp(one.x - top);
  }
  return top + log(sum);
}
#endif

#if stats
@compute @workgroup_size(64)
fn stats(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= liveRows()) { return; }
  var top = -1e30;
  for (var i = li; i < p.count; i += 64u) { top = max(top, logits[row * p.stride + i]); }
  top = max64(top, li);
  var sum = 0.0;
  for (var i = li; i < p.count; i += 64u) { sum += exp(logits[row * p.stride + i] - top); }
  sum = sum64(sum, li);
#if ENTROPY
  var weighted = 0.0;
  for (var i = li; i < p.count; i += 64u) {
    let logit = logits[row * p.stride + i];
    weighted += logit * exp(logit - top);
  }
  weighted = sum64(weighted, li);
  if (li == 0u) { statistics[row * p.parts + p.part] = vec3f(top, sum, weighted); }
#else
  if (li == 0u) { statistics[row * p.parts + p.part] = vec2f(top, sum); }
#endif
}
#endif

#if logprobs
@compute @workgroup_size(64)
fn logprobs(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg) * 64u + li;
  if (row >= liveRows()) { return; }
  let lse = logSumExp(row);
  let end = edgeStart[p.firstRow + row + 1u];
  for (var e = edgeStart[p.firstRow + row]; e < end; e++) {
    let token = edgeTarget[e];
    if (token >= p.first && token < p.first + p.count) {
      edgeLogprob[e] = logits[row * p.stride + token - p.first] - lse;
    }
  }
#if ENTROPY
  if (p.part == 0u) {
    var mean = 0.0;
    for (var i = 0u; i < p.parts; i++) {
      let one = statistics[row * p.parts + i];
      mean += one.z * exp(one.x - lse);
    }
    rowEntropy[p.firstRow + row] = lse - mean;
  }
#endif
}
#endif

#if backward
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = folded(wg);
  if (row >= liveRows()) { return; }
  let lse = logSumExp(row);
  let begin = edgeStart[p.firstRow + row];
  let end = edgeStart[p.firstRow + row + 1u];
  var total = 0.0;
  for (var e = begin; e < end; e++) { total += edgeWeight[e]; }
  for (var i = li; i < p.stride; i += 64u) {
    var value = 0.0;
    if (i < p.count) { value = batch.gradScale * total * exp(logits[row * p.stride + i] - lse); }
    gradient[row * p.stride + i] = ${TYPE}(value);
  }
  storageBarrier();
  // Targets of a row are distinct, so no two edges write one element.
  for (var e = begin + li; e < end; e += 64u) {
    let token = edgeTarget[e];
    if (token >= p.first && token < p.first + p.count) {
      let at = row * p.stride + token - p.first;
      gradient[at] = ${TYPE}(batch.gradScale * (total * exp(logits[at] - lse) - edgeWeight[e]));
    }
  }
}
#endif
