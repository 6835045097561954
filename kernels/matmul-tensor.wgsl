enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if PIN
enable subgroup_size_control;
#endif
// Matmul on matrix units (subgroup matrices), f32 sums. Meaning and bindings: include/matmul.wgsl, with x, w, u and v
// read as vec4u: XW numbers of 16 / XW bytes each; n, and k or m where they lie along a row, are multiples of XW.
// A workgroup of GM × GN subgroups of SG lanes owns BM × BN results and steps through k by BK; a subgroup holds
// TM × TN matrices of MM × MN, a product is MK deep, of E operands (E f32 over f16 tensors: converted when staged).
// STAGES 1, 2: tiles of x and w pass through one or two buffers of workgroup memory, as they lie in memory (a transpose
//   is a column-major load), rows PAD units further apart than they are long against bank conflicts.
// TURN (f16 w [k, n]): w is staged as its transpose, because rows of k make right operands of whole words, and columns
//   of k of single halves: an invocation takes eight rows by four columns, read as vec2u, and turns them in registers.
// STAGES 0: matrices are loaded from the tensors; the last tiles are shifted to end with the operand.
//   A packed w is unpacked on its way into workgroup memory.
// GROUP: tiles are visited in bands of GROUP tile rows, so that those at work share operands in cache.
// PIN: fix the subgroup size where the device has several. Offsets of matrix loads count units of 16 bytes.
#include "matmul.wgsl"
#if FORMAT != 'plain'
#include "dequantize.wgsl"
#endif
alias Left = subgroup_matrix_left<${E}, ${MK}, ${MM}>;    // columns, rows
alias Right = subgroup_matrix_right<${E}, ${MN}, ${MK}>;
alias Result = subgroup_matrix_result<f32, ${MN}, ${MM}>;
const threads = ${GM * GN * SG}u;
const wide = ${XW}u;                                             // numbers in a unit of the tensors
const split = ${E == 'f32' && XW == 8 ? 2 : 1}u;                 // staged units from one of those
const xUnits = ${(XT ? BM : BK) / XW}u;                          // of a staged row
const wUnits = ${(WT || TURN ? BK : BN) / XW}u;
const xRows = ${XT ? BK : BM}u;
const wRows = ${WT || TURN ? BN : BK}u;
const xStride = xUnits * split + ${PAD}u;
const wStride = wUnits * split + ${PAD}u;
const xTile = ${STAGES == 0 ? 0 : 1}u * xRows * xStride;
const tile = xTile + ${STAGES == 0 ? 0 : 1}u * wRows * wStride;
const unit = ${E == 'f32' ? 4 : 8}u;                             // numbers in a staged unit
const passed = ${EJ * MN / 4}u;                                  // quads of a row of results that a subgroup passes on at a time
const share = ${MM}u * passed;
const turns = max(1u, share / ${SG}u);                           // of a subgroup that takes them on
var<workgroup> staged: array<vec4u, max(${STAGES}u * tile, ${GM * GN}u * share)>;
#if STAGES

fn put(at: u32, value: vec4u) {
#if E == 'f32' && XW == 8
  let lo = vec4f(unpack2x16float(value.x), unpack2x16float(value.y));
  let hi = vec4f(unpack2x16float(value.z), unpack2x16float(value.w));
  staged[at] = bitcast<vec4u>(lo);
  staged[at + 1u] = bitcast<vec4u>(hi);
#else
  staged[at] = value;
#endif
}

#if TURN
alias Unit = array<vec2u, 8>;
alias Added = Unit;

// Columns 2j and 2j + 1 of the four: the low and the high halves of the rows' words j.
#for j in 0..2
fn column${2 * j}(rows: Unit) -> vec4u {
  return vec4u(
#for h in 0..4
    (rows[${2 * h}][${j}] & 0xffffu) | (rows[${2 * h + 1}][${j}] << 16u),
#endfor
  );
}
fn column${2 * j + 1}(rows: Unit) -> vec4u {
  return vec4u(
#for h in 0..4
    (rows[${2 * h}][${j}] >> 16u) | (rows[${2 * h + 1}][${j}] & 0xffff0000u),
#endfor
  );
}
#endfor
#else
alias Added = vec4u;
#if FORMAT == 'plain'
alias Unit = vec4u;
fn weight(i: u32) -> Unit { return w[i]; }
fn halves(unit: Unit) -> vec4u { return unit; }
#else
alias Unit = Packed;
fn weight(i: u32) -> Unit { return packedUnit(i); }
fn halves(unit: Unit) -> vec4u {
  let values = unpack(unit);
  // Not pack2x16float: drivers may round that towards zero, where dequantize.wgsl rounds to nearest.
  return vec4u(bitcast<vec2u>(vec4<f16>(values[0])), bitcast<vec2u>(vec4<f16>(values[1])));
}
#endif
#if LORA
fn adapter(i: u32) -> Added { return v[i]; }
#endif
#endif

#for s in 0..1 + LORA
// Unit e of the tiles whose first number of the sum is k, of x from unit `start` on; past the end of the sum both operands
// are zeros: what lies there may be anything.
fn loadX${s}(start: u32, e: u32, k: u32, end: u32) -> vec4u {
#if XT
  let at = k + e / xUnits;
  if (at >= end) { return vec4u(0u); }
  return x[(p.xRow + at) * (p.m / wide) + start];
#else
  let at = k / wide + e % xUnits;
#if s == 0 ? KTAIL : RTAIL
  if (at >= end / wide) { return vec4u(0u); }
#endif
  return ${s == 0 ? 'x' : 'u'}[start + at];
#endif
}
fn loadW${s}(start: u32, e: u32, k: u32, end: u32) -> ${s == 0 ? 'Unit' : 'Added'} {
#if TURN
  let at = k + e % wUnits * 8u;
#if s == 0 ? KTAIL : RTAIL
  if (at >= end) { return Unit(); }
#endif
  let row = ${s == 0 ? 'p.wStride' : 'p.n'} / 4u;
  let first = start + at * row;
  return Unit(
#for i in 0..8
    ${s == 0 ? 'w' : 'v'}[first + ${i}u * row],
#endfor
  );
#elif WT
  let at = k / wide + e % wUnits;
#if s == 0 ? KTAIL : RTAIL
  if (at >= end / wide) { return ${s == 0 ? 'Unit' : 'vec4u'}(); }
#endif
  return ${s == 0 ? 'weight' : 'adapter'}(start + at);
#else
  let at = k + e / wUnits;
#if !WFULL || (s == 0 ? KTAIL : RTAIL)
  if (at >= end) { return ${s == 0 ? 'Unit' : 'vec4u'}(); }
#endif
  return ${s == 0 ? 'weight' : 'adapter'}(start + at * (${s == 0 ? 'p.wStride' : 'p.n'} / wide));
#endif
}
#endfor
#endif

@compute @workgroup_size(${GM * GN * SG}) ${PIN ? '@subgroup_size(' + SG + ')' : ''}
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
  let live = ${XT && WT ? 'p.k' : 'liveRows()'};
#if XT
  let rows = p.m;
#else
  let rows = live;
#endif
#if GROUP > 1
  let across = (p.n + ${BN - 1}u) / ${BN}u;
  let down = (p.m + ${BM - 1}u) / ${BM}u;
  let id = wg.y * across + wg.x;
  let band = id / (${GROUP}u * across);
  let within = id % (${GROUP}u * across);
  let height = min(${GROUP}u, down - band * ${GROUP}u);
  let mTile = (band * ${GROUP}u + within % height) * ${BM}u;
  let nTile = within / height * ${BN}u;
#else
  let mTile = wg.y * ${BM}u;
  let nTile = wg.x * ${BN}u;
#endif
  if (mTile >= rows) { return; }
#if FORMAT != 'plain'
  prepare(li);
#endif
#if STAGES
  let m0 = mTile;
  let n0 = nTile;
#else
  let m0 = min(mTile, max(rows, ${BM}u) - ${BM}u);
  let n0 = min(nTile, p.n - ${BN}u);
#endif
  let gm = (subgroup / ${GN}u) * ${TM * MM}u;
  let gn = (subgroup % ${GN}u) * ${TN * MN}u;
#for i in 0..TM
#for j in 0..TN
  var c${i}_${j}: Result;
#endfor
#endfor
#for s in 0..1 + LORA
  {
    let first = ${s == 0 ? 'wg.z * p.split' : '0u'};
    let end = ${s == 0 ? (XT ? 'min(first + p.split, live)' : 'min(first + p.split, p.k)') : SPLIT ? 'select(0u, p.r, wg.z == 0u)' : 'p.r'};
#if !XT
    let xDepth = ${s == 0 ? 'p.xStride' : 'p.uStride'} / wide;
    let xFirst = ${s == 0 ? 'p.xColumn' : 'p.uColumn'} / wide;
    let wDepth = ${s == 0 ? 'p.k' : 'p.r'} / wide;
#else
    let wDepth = p.k / wide;
#endif
#if !WT && !TURN
    let wFirst = ${s == 0 ? 'p.wColumn / wide' : '0u'};
#endif
#if STAGES
    // Where this invocation's units of the tiles start; rows and columns past the end repeat the last one, whose
    // results nobody stores.
#for e in 0..XE
#if XT
    let xAt${e} = min(m0 / wide + (li + ${e}u * threads) % xUnits, p.m / wide - 1u);
#else
    let xAt${e} = (p.xRow + min(m0 + (li + ${e}u * threads) / xUnits, rows - 1u)) * xDepth + xFirst;
#endif
#endfor
#for e in 0..WE
#if WT
    let wAt${e} = (${s == 0 ? '' : 'p.cColumn + '}min(n0 + (li + ${e}u * threads) / wUnits, p.n - 1u)) * wDepth;
#elif TURN
    let wAt${e} = ${s == 0 ? 'p.wColumn / 4u + ' : ''}min(n0 / 4u + (li + ${e}u * threads) / wUnits, p.n / 4u - 1u);
#else
    let wAt${e} = wFirst + min(n0 / wide + (li + ${e}u * threads) % wUnits, p.n / wide - 1u);
#endif
#endfor
    var buffer = 0u;
#for e in 0..XE
    var xUnit${e} = vec4u();
#endfor
#for e in 0..WE
    var wUnit${e} = ${s == 0 ? 'Unit' : 'Added'}();
#endfor
    if (first < end) {
#for e in 0..XE
      xUnit${e} = loadX${s}(xAt${e}, li + ${e}u * threads, first, end);
#endfor
#for e in 0..WE
      wUnit${e} = loadW${s}(wAt${e}, li + ${e}u * threads, first, end);
#endfor
    }
    for (var k0 = first; k0 < end; k0 += ${BK}u) {
#for e in 0..XE
      {
        let e = li + ${e}u * threads;
        ${XFULL ? '' : 'if (e < xRows * xUnits)'} { put(buffer + e / xUnits * xStride + e % xUnits * split, xUnit${e}); }
      }
#endfor
#for e in 0..WE
      {
        let e = li + ${e}u * threads;
#if TURN
        ${WFULL ? '' : 'if (e < ' + BN / 4 + 'u * wUnits)'} {
          let to = buffer + xTile + e / wUnits * 4u * wStride + e % wUnits;
#for c in 0..4
          staged[to + ${c}u * wStride] = column${c}(wUnit${e});
#endfor
        }
#else
        ${WFULL ? '' : 'if (e < wRows * wUnits)'} { put(buffer + xTile + e / wUnits * wStride + e % wUnits * split, ${s == 0 ? 'halves' : ''}(wUnit${e})); }
#endif
      }
#endfor
      workgroupBarrier();
      // The next tile is on its way while this one is multiplied.
      let next = k0 + ${BK}u;
      if (next < end) {
#for e in 0..XE
        xUnit${e} = loadX${s}(xAt${e}, li + ${e}u * threads, next, end);
#endfor
#for e in 0..WE
        wUnit${e} = loadW${s}(wAt${e}, li + ${e}u * threads, next, end);
#endfor
      }
      let xs = buffer;
      let ws = buffer + xTile;
#for step in 0..BK / MK
      {
#for i in 0..TM
#if XT
        let a${i} = subgroupMatrixLoad<Left, col_major>(&staged, xs + ${step * MK}u * xStride + (gm + ${i * MM}u) / unit, xStride);
#else
        let a${i} = subgroupMatrixLoad<Left, row_major>(&staged, xs + (gm + ${i * MM}u) * xStride + ${step * MK}u / unit, xStride);
#endif
#endfor
#for j in 0..TN
        {
#if WT || TURN
          let b = subgroupMatrixLoad<Right, col_major>(&staged, ws + (gn + ${j * MN}u) * wStride + ${step * MK}u / unit, wStride);
#else
          let b = subgroupMatrixLoad<Right, row_major>(&staged, ws + ${step * MK}u * wStride + (gn + ${j * MN}u) / unit, wStride);
#endif
#for i in 0..TM
          c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b, c${i}_${j});
#endfor
        }
#endfor
      }
#endfor
#if STAGES == 2
      buffer = select(tile, 0u, buffer > 0u);
#else
      workgroupBarrier();
#endif
    }
#if STAGES == 2
    workgroupBarrier();
#endif
#else
#if !WT
    let wRow = ${s == 0 ? 'p.wStride' : 'p.n'} / wide;
#endif
    for (var k0 = first; k0 < end; k0 += ${MK}u) {
#for i in 0..TM
      let a${i} = subgroupMatrixLoad<Left, row_major>(&${s == 0 ? 'x' : 'u'}, (p.xRow + m0 + gm + ${i * MM}u) * xDepth + xFirst + k0 / wide, xDepth);
#endfor
#for j in 0..TN
      {
#if WT
        let b = subgroupMatrixLoad<Right, col_major>(&${s == 0 ? 'w' : 'v'}, (${s == 0 ? '' : 'p.cColumn + '}n0 + gn + ${j * MN}u) * wDepth + k0 / wide, wDepth);
#else
        let b = subgroupMatrixLoad<Right, row_major>(&${s == 0 ? 'w' : 'v'}, k0 * wRow + wFirst + (n0 + gn + ${j * MN}u) / wide, wRow);
#endif
#for i in 0..TM
        c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b, c${i}_${j});
#endfor
      }
#endfor
    }
#endif
  }
#endfor
  // Matrices have no element access: results leave through workgroup memory, EJ matrices of each subgroup at a time, a lane
  // taking the same four columns of each of its rows.
  let column = lane % passed;
#for i in 0..TM
#for round in 0..TN / EJ
#for j in 0..EJ
  subgroupMatrixStore<row_major>(&staged, subgroup * share + ${j * MN / 4}u, c${i}_${round * EJ + j}, passed);
#endfor
  workgroupBarrier();
  {
    let quad = (n0 + gn) / 4u + ${round}u * passed + column;
    if (${STAGES ? '' : 'quad >= nTile / 4u && '}quad < p.n / 4u) {
      for (var turn = 0u; turn < turns; turn++) {
        let r = lane / passed + turn * (${SG}u / passed);
        let row = m0 + gm + ${i * MM}u + r;
        if (${STAGES ? '' : 'row >= mTile && '}${MM * EJ * MN < 4 * SG ? 'r < ' + MM + 'u && ' : ''}row < rows) {
          store(wg.z * p.m + row, quad, bitcast<vec4f>(staged[subgroup * share + r * passed + column]));
        }
      }
    }
  }
  workgroupBarrier();
#endfor
#endfor
}
