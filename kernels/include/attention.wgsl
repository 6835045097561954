// Bindings of tree attention, and who sees whom.
// Query q sees key k iff k <= q < subtreeEnd[k], and in windowed layers positions[q] - positions[k] < window.
// Grouped queries: head h reads key head h / group. An entry of the block list is block << 1 | masked.
// TYPE: element type. INPUT: what the kernel reads q, k, v and do as, by four; u32 for units of 16 bytes.
// At most 10 tensors a pass: Metal has room for no more.
#if forward
@group(0) @binding(0) var<storage, read_write> o: array<vec4<${TYPE}>>;   // [rows, heads, headDim]
#endif
#if prepare
@group(0) @binding(0) var<storage, read> o: array<vec4<${TYPE}>>;
@group(0) @binding(1) var<storage, read> dout: array<vec4<${TYPE}>>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2f>;       // [rows, heads] lse, delta
#else
@group(0) @binding(${forward ? 1 : 0}) var<storage, read> q: array<vec4<${INPUT}>>; // [rows, heads, headDim]
@group(0) @binding(${forward ? 2 : 1}) var<storage, read> k: array<vec4<${INPUT}>>; // [rows, kvHeads, headDim]
@group(0) @binding(${forward ? 3 : 2}) var<storage, read> v: array<vec4<${INPUT}>>;
@group(0) @binding(${forward ? 4 : 3}) var<storage, read> positions: array<u32>;
@group(0) @binding(${forward ? 5 : 4}) var<storage, read> subtreeEnd: array<u32>;
@group(0) @binding(${forward ? 6 : 5}) var<storage, read> list: array<u32>; // where each block's entries begin, [blocks + 1]; then those
#endif
#if forward
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;           // [rows, heads]
#endif
#if keys || queries
@group(0) @binding(6) var<storage, read> stats: array<vec2f>;
@group(0) @binding(7) var<storage, read> dout: array<vec4<${INPUT}>>;
#endif
#if keys
@group(0) @binding(8) var<storage, read_write> dk: array<vec4<${TYPE}>>;
@group(0) @binding(9) var<storage, read_write> dv: array<vec4<${TYPE}>>;
#endif
#if queries
@group(0) @binding(8) var<storage, read_write> dq: array<vec4<${TYPE}>>;
#endif
struct Params { heads: u32, kvHeads: u32, headDim: u32, window: u32, scale: f32 } // window 0: none
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

#if !prepare
const hidden = -1e30; // WGSL may assume that infinities do not occur

fn visible(query: u32, key: u32) -> bool {
  return query < batch.rows && key <= query && query < subtreeEnd[key]
    && (p.window == 0u || positions[query] - positions[key] < p.window);
}
#endif
