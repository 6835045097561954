// From the table of a decoding step's rows: the token, position and place in the cache of each. A row's token is its own
// or what was sampled in row `source` of the step before.
#include "decode-row.wgsl"
@group(0) @binding(2) var<storage, read> sampled: array<vec4u>;            // [slots] of kernels/sample.wgsl
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;         // [rows]
@group(0) @binding(4) var<storage, read_write> positions: array<u32>;      // [rows]
@group(0) @binding(5) var<storage, read_write> place: array<u32>;          // [rows]
struct Params { maxPath: u32, none: u32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x;
  if (row >= batch.rows) { return; }
  let about = rows[2u * row];
  let what = rows[2u * row + 1u];
  var token = what.x;
  if (what.y != p.none) { token = sampled[what.y].x; }
  tokens[row] = token;
  positions[row] = about.w - 1u;
  place[row] = placeOf(about, about.w - 1u);
}
