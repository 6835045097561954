// Sum and maximum over a workgroup of 64; every invocation gets the result. Uniform control flow only.
var<workgroup> scratch: array<f32, 64>;
fn sum64(value: f32, li: u32) -> f32 {
  workgroupBarrier();
  scratch[li] = value;
  workgroupBarrier();
  if (li < 8u) {
    var s = 0.0;
    for (var i = 0u; i < 8u; i++) { s += scratch[li * 8u + i]; }
    scratch[li * 8u] = s;
  }
  workgroupBarrier();
  return scratch[0] + scratch[8] + scratch[16] + scratch[24] + scratch[32] + scratch[40] + scratch[48] + scratch[56];
}
fn max64(value: f32, li: u32) -> f32 {
  workgroupBarrier();
  scratch[li] = value;
  workgroupBarrier();
  if (li < 8u) {
    var s = scratch[li * 8u];
    for (var i = 1u; i < 8u; i++) { s = max(s, scratch[li * 8u + i]); }
    scratch[li * 8u] = s;
  }
  workgroupBarrier();
  return max(max(max(scratch[0], scratch[8]), max(scratch[16], scratch[24])), max(max(scratch[32], scratch[40]), max(scratch[48], scratch[56])));
}
