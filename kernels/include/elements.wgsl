// Elements of a checkpoint, two at a time, from the file's bytes in `raw`. FROM: 'bf16', 'f16' or 'f32'.
fn elements(pair: u32) -> vec2f {
#if FROM == 'f32'
  return bitcast<vec2f>(vec2u(raw[2u * pair], raw[2u * pair + 1u]));
#elif FROM == 'bf16'
  return bitcast<vec2f>(vec2u(raw[pair] << 16u, raw[pair] & 0xffff0000u));
#else
  return unpack2x16float(raw[pair]);
#endif
}
