// What changes from one run of a program to the next; src/gpu/batch.ts writes it.
struct Batch {
  rows: u32,        // live rows (trie nodes) of the batch; capacity is in the program
  logitRows: u32,   // rows with at least one edge
  seed: u32,        // of dropout masks
  unused: u32,
  gradScale: f32,   // on the gradient of a unit of edge weight
  unscale: f32,     // 1 / (gradScale · total weight of the accumulation window)
  rateA: f32,       // learning rate of lora_A
  rateB: f32,       // of lora_B (LoRA+)
  beta1: f32,
  beta2: f32,
  epsilon: f32,
  decay: f32,       // weight decay
  correction1: f32, // 1 - beta1^step
  correction2: f32, // 1 - beta2^step
  maxNorm: f32,     // clip gradients to this norm; 0 = off
  dropout: f32,
}
@group(0) @binding(21) var<uniform> batch: Batch;
