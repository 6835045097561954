// LoRA dropout. A mask is never stored: it is a hash of (seed, site, element), the same in both passes.
// forward:  y = mask · x / (1 − dropout)
// backward: dx += mask · dy / (1 − dropout)
// One invocation an element. SOURCE: element type of x and dy; TYPE: of y.
#if forward
@group(0) @binding(0) var<storage, read> x: array<${SOURCE}>;
@group(0) @binding(1) var<storage, read_write> y: array<${TYPE}>;
#else
@group(0) @binding(0) var<storage, read> dy: array<${SOURCE}>;
@group(0) @binding(1) var<storage, read_write> dx: array<${TYPE}>;
#endif
struct Params { dim: u32, site: u32 } // site: which module of which layer
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "fold.wgsl"

// PCG output permutation (Jarzynski & Olano 2020, "Hash Functions for GPU Rendering").
fn pcg(value: u32) -> u32 {
  let state = value * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn keep(i: u32) -> f32 {
  let random = f32(pcg(i ^ pcg(p.site ^ pcg(batch.seed))) >> 8u) / 16777216.0;
  return select(0.0, 1.0 / (1.0 - batch.dropout), random >= batch.dropout);
}

@compute @workgroup_size(64)
#if forward
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= batch.rows * p.dim) { return; }
  y[i] = ${TYPE}(f32(x[i]) * keep(i));
}
#else
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let i = folded(wg) * 64u + li;
  if (i >= batch.rows * p.dim) { return; }
  dx[i] = ${TYPE}(f32(dx[i]) + f32(dy[i]) * keep(i));
}
#endif
