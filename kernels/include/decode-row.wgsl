// What a row of a decoding step is, two vectors each; src/ops/decode-rows.ts writes them. A row sees `length` tokens,
// its own the last: the first `shared` of them at the places that its slot's path lists, the others from `own` on.
//   (slot, shared, own, length), (token, source, seed's low word, its high word)
@group(0) @binding(0) var<storage, read> rows: array<vec4u>; // [rows, 2]
#if PATHS
@group(0) @binding(1) var<storage, read> paths: array<u32>;  // [slots, p.maxPath]

// Place in the cache of token i of a row.
fn placeOf(row: vec4u, i: u32) -> u32 {
  if (i < row.y) { return paths[row.x * p.maxPath + i]; }
  return row.z + i - row.y;
}
#endif
