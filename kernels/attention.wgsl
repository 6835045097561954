// Attention over a token trie (masks and bindings: include/attention.wgsl).
// A workgroup of 64 owns 16 rows of one head and walks the blocks that the host listed for it. Softmax statistics and
// sums in f32; only probability tiles pass through workgroup memory.
// forward:  o, lse = log Σ exp(s)              (one pass, running maximum)
// prepare:  delta[q] = Σ do[q] · o[q], beside its lse
// keys:     dk, dv of a key block, over the query heads of its group
// queries:  dq of a query block
// PARTS = ceil(headDim / 16): vec4s of a row that each of a row's four invocations holds.
#include "attention.wgsl"

#if !prepare
var<workgroup> tile: array<f32, 256>;  // [16 queries][16 keys]: s in forward, p in keys
#if keys || queries
var<workgroup> grads: array<f32, 256>; // ds
#endif

fn score(query: u32, head: u32, key: u32, width: u32) -> f32 {
  let a = (query * p.heads + head) * width;
  let b = (key * p.kvHeads + head / (p.heads / p.kvHeads)) * width;
  var sum = 0.0;
  for (var d = 0u; d < width; d++) { sum += dot(vec4f(q[a + d]), vec4f(k[b + d])); }
  return sum * p.scale;
}
#endif

#if forward
@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let head = wg.y;
  let width = p.headDim / 4u;
  let kvHead = head / (p.heads / p.kvHeads);
  if (wg.x * 16u >= batch.rows) { return; }
  let local = li / 4u;
  let part = li % 4u;
  let query = wg.x * 16u + local;
  let row = min(query, batch.rows - 1u);
#for i in 0..PARTS
  var acc${i} = vec4f(0.0);
#endfor
  var top = hidden;
  var total = 0.0;
  for (var e = list[wg.x]; e < list[wg.x + 1u]; e++) {
    let entry = list[e];
    let key0 = (entry >> 1u) * 16u;
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      let key = key0 + part * 4u + i;
      var s = hidden;
      if ((entry & 1u) == 0u || visible(query, key)) { s = score(row, head, key, width); }
      tile[local * 16u + part * 4u + i] = s;
    }
    workgroupBarrier();
    var newTop = top;
    for (var i = 0u; i < 16u; i++) { newTop = max(newTop, tile[local * 16u + i]); }
    let shrink = exp(top - newTop);
    top = newTop;
    total *= shrink;
#for i in 0..PARTS
    acc${i} *= shrink;
#endfor
    for (var i = 0u; i < 16u; i++) {
      let s = tile[local * 16u + i];
      if (s > hidden) {
        let weight = exp(s - top);
        total += weight;
        let at = ((key0 + i) * p.kvHeads + kvHead) * width + part;
#for j in 0..PARTS
        if (part + ${j * 4}u < width) { acc${j} += weight * vec4f(v[at + ${j * 4}u]); }
#endfor
      }
    }
  }
  if (query >= batch.rows) { return; }
  if (part == 0u) { lse[query * p.heads + head] = top + log(total); }
  let at = (query * p.heads + head) * width + part;
#for j in 0..PARTS
  if (part + ${j * 4}u < width) { o[at + ${j * 4}u] = vec4<${TYPE}>(acc${j} / total); }
#endfor
}
#endif

#if prepare
// One invocation a (row, head).
@compute @workgroup_size(64)
fn prepare(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= batch.rows * p.heads) { return; }
  let width = p.headDim / 4u;
  var sum = 0.0;
  for (var d = 0u; d < width; d++) { sum += dot(vec4f(o[i * width + d]), vec4f(dout[i * width + d])); }
  stats[i] = vec2f(lse[i], sum);
}
#endif

#if keys || queries
// ds = p · (dp - delta) · scale of one (query, key); zero where hidden.
fn fillTile(query: u32, head: u32, key: u32, at: u32, masked: bool, width: u32) {
  var weight = 0.0;
  var ds = 0.0;
  if (!masked || visible(query, key)) {
    weight = exp(score(query, head, key, width) - stats[query * p.heads + head].x);
    let a = (query * p.heads + head) * width;
    let b = (key * p.kvHeads + head / (p.heads / p.kvHeads)) * width;
    var dp = 0.0;
    for (var d = 0u; d < width; d++) { dp += dot(vec4f(dout[a + d]), vec4f(v[b + d])); }
    ds = weight * (dp - stats[query * p.heads + head].y) * p.scale;
  }
  tile[at] = weight;
  grads[at] = ds;
}
#endif

#if keys
@compute @workgroup_size(64)
fn keys(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let kvHead = wg.y;
  let width = p.headDim / 4u;
  let group = p.heads / p.kvHeads;
  if (wg.x * 16u >= batch.rows) { return; }
  let local = li / 4u;
  let part = li % 4u;
  let key0 = wg.x * 16u;
#for j in 0..PARTS
  var dk${j} = vec4f(0.0);
  var dv${j} = vec4f(0.0);
#endfor
  for (var e = list[wg.x]; e < list[wg.x + 1u]; e++) {
    let entry = list[e];
    let query0 = (entry >> 1u) * 16u;
    for (var head = kvHead * group; head < (kvHead + 1u) * group; head++) {
      workgroupBarrier();
      for (var i = 0u; i < 4u; i++) {
        fillTile(query0 + local, head, key0 + part * 4u + i, local * 16u + part * 4u + i, (entry & 1u) != 0u, width);
      }
      workgroupBarrier();
      let count = min(16u, batch.rows - query0);
      for (var i = 0u; i < count; i++) {
        let at = ((query0 + i) * p.heads + head) * width + part;
        let weight = tile[i * 16u + local];
        let ds = grads[i * 16u + local];
#for j in 0..PARTS
        if (part + ${j * 4}u < width) {
          dv${j} += weight * vec4f(dout[at + ${j * 4}u]);
          dk${j} += ds * vec4f(q[at + ${j * 4}u]);
        }
#endfor
      }
    }
  }
  if (key0 + local >= batch.rows) { return; }
  let at = ((key0 + local) * p.kvHeads + kvHead) * width + part;
#for j in 0..PARTS
  if (part + ${j * 4}u < width) {
    dk[at + ${j * 4}u] = vec4<${TYPE}>(dk${j});
    dv[at + ${j * 4}u] = vec4<${TYPE}>(dv${j});
  }
#endfor
}
#endif

#if queries
@compute @workgroup_size(64)
fn queries(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let head = wg.y;
  let width = p.headDim / 4u;
  let kvHead = head / (p.heads / p.kvHeads);
  if (wg.x * 16u >= batch.rows) { return; }
  let local = li / 4u;
  let part = li % 4u;
  let query = wg.x * 16u + local;
#for j in 0..PARTS
  var dq${j} = vec4f(0.0);
#endfor
  for (var e = list[wg.x]; e < list[wg.x + 1u]; e++) {
    let entry = list[e];
    let key0 = (entry >> 1u) * 16u;
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      fillTile(query, head, key0 + part * 4u + i, local * 16u + part * 4u + i, (entry & 1u) != 0u, width);
    }
    workgroupBarrier();
    let count = min(16u, batch.rows - key0);
    for (var i = 0u; i < count; i++) {
      let ds = grads[local * 16u + i];
      let at = ((key0 + i) * p.kvHeads + kvHead) * width + part;
#for j in 0..PARTS
      if (part + ${j * 4}u < width) { dq${j} += ds * vec4f(k[at + ${j * 4}u]); }
#endfor
    }
  }
  if (query >= batch.rows) { return; }
  let at = (query * p.heads + head) * width + part;
#for j in 0..PARTS
  if (part + ${j * 4}u < width) { dq[at + ${j * 4}u] = vec4<${TYPE}>(dq${j}); }
#endfor
}
#endif
