// Where AWQ's GEMM layout keeps the code of a row among the 8 of its word: rows 0, 2, 4, 6, 1, 3, 5, 7 in rising bits.
fn awqShift(row: u32) -> u32 {
  return 4u * ((row % 8u) / 2u + (row % 2u) * 4u);
}
