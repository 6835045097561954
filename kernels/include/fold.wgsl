// One-dimensional grids past 65,535 workgroups are folded into rows of 32,768; `grid` of src/ops/context.ts makes them.
fn folded(workgroup: vec3u) -> u32 {
  return workgroup.y * 32768u + workgroup.x;
}
