// Attention over a token trie for drivers that run on CPU cores (masks and bindings: include/attention.wgsl): no
// workgroup memory and no barriers. A lane holds one row of its own in registers; the rows it meets are the same for
// all lanes, so that their loads are scalar. ROWS of them are taken at a time, so that sums are touched once for
// several. Passes as in attention.wgsl. QUADS = headDim / 4.
#include "attention.wgsl"

fn kvHeadOf(head: u32) -> u32 {
  return head / (p.heads / p.kvHeads);
}

#if forward
@compute @workgroup_size(16)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  if (wg.x * 16u >= batch.rows) { return; }
  let head = wg.y;
  let kvHead = kvHeadOf(head);
  let query = wg.x * 16u + li;
  let base = (min(query, batch.rows - 1u) * p.heads + head) * ${QUADS}u;
#for d in 0..QUADS
  let q${d} = vec4f(q[base + ${d}u]) * p.scale;
  var acc${d} = vec4f(0.0);
#endfor
  var top = hidden;
  var total = 0.0;
  for (var e = list[wg.x]; e < list[wg.x + 1u]; e++) {
    let entry = list[e];
    let masked = (entry & 1u) != 0u;
    let first = (entry >> 1u) * 16u;
    for (var key = first; key < min(first + 16u, batch.rows); key += ${ROWS}u) {
#for i in 0..ROWS
      let key${i} = min(key + ${i}u, batch.rows - 1u);
      let at${i} = (key${i} * p.kvHeads + kvHead) * ${QUADS}u;
      var s${i} = 0.0;
#endfor
#for d in 0..QUADS
#for i in 0..ROWS
      s${i} += dot(q${d}, vec4f(k[at${i} + ${d}u]));
#endfor
#endfor
#for i in 0..ROWS
      let seen${i} = key + ${i}u < batch.rows && (!masked || visible(query, key${i}));
      s${i} = select(hidden, s${i}, seen${i});
#endfor
      var newTop = top;
#for i in 0..ROWS
      newTop = max(newTop, s${i});
#endfor
      let shrink = exp(top - newTop);
      top = newTop;
#for i in 0..ROWS
      let w${i} = select(0.0, exp(s${i} - top), seen${i});
#endfor
      total = total * shrink;
#for i in 0..ROWS
      total += w${i};
#endfor
#for d in 0..QUADS
      acc${d} *= shrink;
#for i in 0..ROWS
      acc${d} += w${i} * vec4f(v[at${i} + ${d}u]);
#endfor
#endfor
    }
  }
  if (query >= batch.rows) { return; }
  lse[query * p.heads + head] = top + log(total);
#for d in 0..QUADS
  o[base + ${d}u] = vec4<${TYPE}>(acc${d} / total);
#endfor
}
#endif

#if queries
@compute @workgroup_size(16)
fn queries(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  if (wg.x * 16u >= batch.rows) { return; }
  let head = wg.y;
  let kvHead = kvHeadOf(head);
  let query = wg.x * 16u + li;
  let row = min(query, batch.rows - 1u);
  let base = (row * p.heads + head) * ${QUADS}u;
  let rowLse = stats[row * p.heads + head].x;
  let rowDelta = stats[row * p.heads + head].y;
#for d in 0..QUADS
  let q${d} = vec4f(q[base + ${d}u]) * p.scale;
  let g${d} = vec4f(dout[base + ${d}u]);
  var dq${d} = vec4f(0.0);
#endfor
  for (var e = list[wg.x]; e < list[wg.x + 1u]; e++) {
    let entry = list[e];
    let masked = (entry & 1u) != 0u;
    let first = (entry >> 1u) * 16u;
    for (var key = first; key < min(first + 16u, batch.rows); key += ${ROWS}u) {
#for i in 0..ROWS
      let key${i} = min(key + ${i}u, batch.rows - 1u);
      let at${i} = (key${i} * p.kvHeads + kvHead) * ${QUADS}u;
      var s${i} = 0.0;
      var dp${i} = 0.0;
#endfor
#for d in 0..QUADS
#for i in 0..ROWS
      s${i} += dot(q${d}, vec4f(k[at${i} + ${d}u]));
      dp${i} += dot(g${d}, vec4f(v[at${i} + ${d}u]));
#endfor
#endfor
#for i in 0..ROWS
      let seen${i} = key + ${i}u < batch.rows && (!masked || visible(query, key${i}));
      let ds${i} = select(0.0, exp(min(s${i} - rowLse, 80.0)) * (dp${i} - rowDelta) * p.scale, seen${i});
#endfor
#for d in 0..QUADS
#for i in 0..ROWS
      dq${d} += ds${i} * vec4f(k[at${i} + ${d}u]);
#endfor
#endfor
    }
  }
  if (query >= batch.rows) { return; }
#for d in 0..QUADS
  dq[base + ${d}u] = vec4<${TYPE}>(dq${d});
#endfor
}
#endif

#if keys
@compute @workgroup_size(16)
fn keys(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  if (wg.x * 16u >= batch.rows) { return; }
  let kvHead = wg.y;
  let group = p.heads / p.kvHeads;
  let key = wg.x * 16u + li;
  let base = (min(key, batch.rows - 1u) * p.kvHeads + kvHead) * ${QUADS}u;
#for d in 0..QUADS
  let k${d} = vec4f(k[base + ${d}u]) * p.scale;
  let v${d} = vec4f(v[base + ${d}u]);
  var dk${d} = vec4f(0.0);
  var dv${d} = vec4f(0.0);
#endfor
  for (var e = list[wg.x]; e < list[wg.x + 1u]; e++) {
    let entry = list[e];
    let masked = (entry & 1u) != 0u;
    let first = (entry >> 1u) * 16u;
    for (var head = kvHead * group; head < (kvHead + 1u) * group; head++) {
      for (var query = first; query < min(first + 16u, batch.rows); query += ${ROWS}u) {
#for i in 0..ROWS
        let query${i} = min(query + ${i}u, batch.rows - 1u);
        let stat${i} = query${i} * p.heads + head;
        let at${i} = stat${i} * ${QUADS}u;
        var s${i} = 0.0;
        var dp${i} = 0.0;
#endfor
#for d in 0..QUADS
#for i in 0..ROWS
        s${i} += dot(k${d}, vec4f(q[at${i} + ${d}u]));
        dp${i} += dot(v${d}, vec4f(dout[at${i} + ${d}u]));
#endfor
#endfor
#for i in 0..ROWS
        let seen${i} = query + ${i}u < batch.rows && key < batch.rows && (!masked || visible(query${i}, key));
        let w${i} = select(0.0, exp(min(s${i} - stats[stat${i}].x, 80.0)), seen${i});
        let ds${i} = w${i} * (dp${i} - stats[stat${i}].y) * p.scale;
#endfor
#for d in 0..QUADS
#for i in 0..ROWS
        dv${d} += w${i} * vec4f(dout[at${i} + ${d}u]);
        dk${d} += ds${i} * vec4f(q[at${i} + ${d}u]);
#endfor
#endfor
      }
    }
  }
  if (key >= batch.rows) { return; }
#for d in 0..QUADS
  dk[base + ${d}u] = vec4<${TYPE}>(dk${d});
  dv[base + ${d}u] = vec4<${TYPE}>(dv${d});
#endfor
}
#endif
