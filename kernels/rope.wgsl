// Rotary embedding of queries and keys in place, halves convention: (a, b) = (x[i], x[i + dim/2]) turns by the angle of
// its position; `direction` 1 forward, -1 backward (the inverse rotation). One invocation a pair; of a row the heads of
// q come first, then those of k. TYPE: element type.
@group(0) @binding(0) var<storage, read> positions: array<u32>;       // [rows]
@group(0) @binding(1) var<storage, read> table: array<vec2f>;         // [positions, headDim / 2] cosine, sine
@group(0) @binding(2) var<storage, read_write> q: array<${TYPE}>;     // [rows, heads, headDim]
@group(0) @binding(3) var<storage, read_write> k: array<${TYPE}>;     // [rows, kvHeads, headDim]
struct Params { heads: u32, kvHeads: u32, headDim: u32, direction: f32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let half = p.headDim / 2u;
  let index = folded(wg) * 64u + li;
  let row = index / ((p.heads + p.kvHeads) * half);
  if (row >= batch.rows) { return; }
  let i = index % half;
  let head = (index / half) % (p.heads + p.kvHeads);
  let turn = table[positions[row] * half + i];
  let sine = turn.y * p.direction;
  if (head < p.heads) {
    let at = (row * p.heads + head) * p.headDim + i;
    let a = f32(q[at]);
    let b = f32(q[at + half]);
    q[at] = ${TYPE}(a * turn.x - b * sine);
    q[at + half] = ${TYPE}(b * turn.x + a * sine);
  } else {
    let at = (row * p.kvHeads + head - p.heads) * p.headDim + i;
    let a = f32(k[at]);
    let b = f32(k[at + half]);
    k[at] = ${TYPE}(a * turn.x - b * sine);
    k[at + half] = ${TYPE}(b * turn.x + a * sine);
  }
}
