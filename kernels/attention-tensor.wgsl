enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if PIN
enable subgroup_size_control;
#endif
// Attention over a token trie on matrix units (masks and bindings: include/attention.wgsl; f16 tensors, read as vec4u).
// A workgroup owns the BLOCK rows of one block and head and walks the blocks that the host listed for it, ROWS rows at a
// time: s = own1·walked1ᵀ and, backward, dp = own2·walked2ᵀ; then its sums grow by p·walked2 and ds·walked1.
//             own      walked   result
// forward:    q        k, v     o = Σ p·v, lse
// queries:    q, do    k, v     dq = Σ ds·k
// keys:       k, v     q, do    dv = Σ pᵀ·do, dk = Σ dsᵀ·q, over the query heads of its group
// Forward, a row's weights are exp(s - base). Where a score passes its row's base by more than `slack`, which is rare after
// the first rows, the bases become the greatest scores so far, and the sums are rescaled in memory, SCALED of a subgroup at
// a time: matrices have no element access.
// Walked rows pass through workgroup memory, and so do tiles of s and dp on their way to p, ds. HELD: own rows stay in
// matrices; else, where registers are few, in workgroup memory.
// STRIPS × ACROSS subgroups of SG lanes: each owns MM rows and a share of the columns. E: operands of the matrices (f32:
// converted when staged). D: head_dim. PAD: units by which staged rows are further apart, against bank conflicts.
#include "attention.wgsl"
alias Left = subgroup_matrix_left<${E}, ${MK}, ${MM}>;    // columns, rows
alias Right = subgroup_matrix_right<${E}, ${MN}, ${MK}>;
alias Result = subgroup_matrix_result<f32, ${MN}, ${MM}>;
const threads = ${STRIPS * ACROSS * SG}u;
const width = ${D / 8}u;                                          // units of 16 bytes in a row of the tensors
const unit = ${E == 'f32' ? 4 : 8}u;                              // numbers in a unit of workgroup memory
const split = ${E == 'f32' ? 2 : 1}u;                             // of those from one of the tensors
const stride = width * split + ${PAD}u;
const second = ${ROWS}u * stride;                                 // walked2
const own = ${HELD ? 0 : 2 * ROWS}u * stride;                     // own1; own2 after it, where they are not held
const scoreStride = ${ROWS / 4 + PAD}u;
const weightStride = ${E == 'f32' ? ROWS / 4 : ROWS / 8}u + ${PAD}u;
const gradients = ${keys ? BLOCK : 0}u * weightStride;            // ds after p
const share = ${EJ * MM * MN / 4}u;                               // units of results that a subgroup passes on at a time
// Walked rows, before those the block's own, unless they have a place of their own; in the end results.
var<workgroup> staged: array<vec4u, max(max(second * 2u, own + ${HELD ? BLOCK : forward ? BLOCK : 2 * BLOCK}u * stride), ${STRIPS * ACROSS}u * share)>;
// A tile [BLOCK][ROWS]: s or dp in f32, then p and ds as operands.
var<workgroup> tile: array<vec4u, max(${BLOCK}u * scoreStride, gradients + ${BLOCK}u * weightStride)>;
#if forward
const slack = 8.0; // weights are at most exp(8), and the greatest of a row at least 1: halves hold them to full precision
var<workgroup> passing: atomic<u32>;                              // whether a score passes its row's base by more
var<workgroup> factors: array<f32, ${BLOCK}>;
#elif keys
var<workgroup> statistics: array<vec2f, ${ROWS}>;                 // lse, delta of the walked queries
#endif

fn put(at: u32, value: vec4u) {
#if E == 'f32'
  staged[at] = bitcast<vec4u>(vec4f(unpack2x16float(value.x), unpack2x16float(value.y)));
  staged[at + 1u] = bitcast<vec4u>(vec4f(unpack2x16float(value.z), unpack2x16float(value.w)));
#else
  staged[at] = value;
#endif
}

#if E == 'f32'
fn putWeights(at: u32, weights: vec4f) { tile[at] = bitcast<vec4u>(weights); }
#else
fn putWeights(at: u32, lo: vec4f, hi: vec4f) {
  // Not pack2x16float: drivers may round that towards zero, and what overflows is to become infinite.
  tile[at] = vec4u(bitcast<vec2u>(vec4<f16>(lo)), bitcast<vec2u>(vec4<f16>(hi)));
}
#endif

@compute @workgroup_size(${STRIPS * ACROSS * SG}) ${PIN ? '@subgroup_size(' + SG + ')' : ''}
#if forward
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
#elif queries
fn queries(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
#else
fn keys(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
#endif
  let rows = batch.rows;
  if (wg.x * ${BLOCK}u >= rows) { return; }
  let group = p.heads / p.kvHeads;
#if keys
  let block = wg.x;
  let ownHeads = p.kvHeads;
  let walkedHeads = p.heads;
#else
  let block = (rows + ${BLOCK - 1}u) / ${BLOCK}u - 1u - wg.x; // those with the most keys first
  let ownHeads = p.heads;
  let walkedHeads = p.kvHeads;
  let walkedHead = wg.y / group;
#endif
#if forward
  if (li == 0u) { atomicStore(&passing, 0u); } // drivers may be told not to clear workgroup memory
#endif
  let own0 = block * ${BLOCK}u;
  let strip = subgroup / ${ACROSS}u * ${MM}u;
  let part = subgroup % ${ACROSS}u;

  // The block's own rows; those past the end are zeros.
#for o in 1..forward ? 2 : 3
  for (var e = li; e < ${BLOCK}u * width; e += threads) {
    let row = own0 + e / width;
    var value = vec4u(0u);
    if (row < rows) { value = ${keys ? (o == 1 ? 'k' : 'v') : (o == 1 ? 'q' : 'dout')}[(row * ownHeads + wg.y) * width + e % width]; }
    put(own + ${HELD ? 0 : (o - 1) * BLOCK}u * stride + e / width * stride + e % width * split, value);
  }
#if HELD
  workgroupBarrier();
#for s in 0..D / MK
  let own${o}_${s} = subgroupMatrixLoad<Left, row_major>(&staged, strip * stride + ${s * MK}u / unit, stride);
#endfor
  workgroupBarrier();
#endif
#endfor

  // This invocation's units of the tile: a row of the block, and walked rows from column on.
#for i in 0..UNITS
  let row${i} = (li + ${i}u * threads) / (${ROWS}u / unit);
  let column${i} = (li + ${i}u * threads) % (${ROWS}u / unit) * unit;
#if forward
  var base${i} = hidden;
  var total${i} = 0.0;
#elif queries
  let at${i} = min(own0 + row${i}, rows - 1u) * p.heads + wg.y;
  let lse${i} = stats[at${i}].x;
  let delta${i} = stats[at${i}].y;
#endif
#endfor
#for j in 0..D / MN / ACROSS
#if keys || forward
  var sumP${j}: Result;
#endif
#if keys || queries
  var sumD${j}: Result;
#endif
#endfor

  for (var entryAt = list[block]; entryAt < list[block + 1u]; entryAt++) {
    let entry = list[entryAt];
    let all = (entry & 1u) == 0u;
    for (var sub = 0u; sub < ${BLOCK / ROWS}u; sub++) {
      let walked0 = (entry >> 1u) * ${BLOCK}u + sub * ${ROWS}u;
      if (walked0 >= rows) { break; }
#if keys
      for (var walkedHead = wg.y * group; walkedHead < (wg.y + 1u) * group; walkedHead++) {
#else
      {
#endif
      // Walked rows past the end are zeros: their weights are, and zero times what lies there may be NaN.
      for (var e = li; e < ${ROWS}u * width; e += threads) {
        let row = walked0 + e / width;
        let at = (row * walkedHeads + walkedHead) * width + e % width;
        let to = e / width * stride + e % width * split;
#for o in 0..2
        {
          var value = vec4u(0u);
          if (row < rows) { value = ${keys ? (o == 0 ? 'q' : 'dout') : (o == 0 ? 'k' : 'v')}[at]; }
          put(${o}u * second + to, value);
        }
#endfor
      }
#if keys
      for (var e = li; e < ${ROWS}u; e += threads) {
        let at = min(walked0 + e, rows - 1u) * p.heads + walkedHead;
        statistics[e] = stats[at];
      }
#endif
      workgroupBarrier();
#for o in 1..forward ? 2 : 3
      for (var j = part * ${ROWS / ACROSS}u; j < (part + 1u) * ${ROWS / ACROSS}u; j += ${MN}u) {
        var s = Result(); // written out: a declaration alone is zero in the first turn of a loop only
        let at = (${(o - 1) * ROWS}u + j) * stride;
#for s in 0..D / MK
        {
#if HELD
          let left = own${o}_${s};
#else
          let left = subgroupMatrixLoad<Left, row_major>(&staged, own + (${(o - 1) * BLOCK}u + strip) * stride + ${s * MK}u / unit, stride);
#endif
          s = subgroupMatrixMultiplyAccumulate(left, subgroupMatrixLoad<Right, col_major>(&staged, at + ${s * MK}u / unit, stride), s);
        }
#endfor
        subgroupMatrixStore<row_major>(&tile, strip * scoreStride + j / 4u, s, scoreStride);
      }
      workgroupBarrier();
#for i in 0..UNITS
#for h in 0..QUADS
#if o == 1
      var p${i}_${h} = bitcast<vec4f>(tile[row${i} * scoreStride + column${i} / 4u + ${h}u]) * p.scale;
#for c in 0..4
      {
        let query = ${keys ? 'walked0 + column' : 'own0 + row'}${i}${keys ? ' + ' + (4 * h + c) + 'u' : ''};
        let key = ${keys ? 'own0 + row' : 'walked0 + column'}${i}${keys ? '' : ' + ' + (4 * h + c) + 'u'};
        let seen = all || visible(query, key);
#if forward
        p${i}_${h}[${c}] = select(hidden, p${i}_${h}[${c}], seen);
#else
        let top = ${keys ? 'statistics[column' : 'lse'}${i}${keys ? ' + ' + (4 * h + c) + 'u].x' : ''};
        p${i}_${h}[${c}] = select(0.0, exp(p${i}_${h}[${c}] - top), seen);
#endif
      }
#endfor
#else
      var d${i}_${h} = bitcast<vec4f>(tile[row${i} * scoreStride + column${i} / 4u + ${h}u]);
#if keys
#for c in 0..4
      d${i}_${h}[${c}] -= statistics[column${i} + ${4 * h + c}u].y;
#endfor
#else
      d${i}_${h} -= delta${i};
#endif
      d${i}_${h} = select(vec4f(0.0), p${i}_${h} * d${i}_${h} * p.scale, p${i}_${h} > vec4f(0.0));
#endif
#endfor
#if forward
      var top${i} = hidden;
#for h in 0..QUADS
      top${i} = max(top${i}, max(max(p${i}_${h}.x, p${i}_${h}.y), max(p${i}_${h}.z, p${i}_${h}.w)));
#endfor
      if (top${i} > base${i} + slack) { atomicStore(&passing, 1u); }
#endif
#endfor
#if !forward
      workgroupBarrier();
#endif
#endfor
#if forward
      if (workgroupUniformLoad(&passing) == 1u) {
#for i in 0..UNITS
        tile[li + ${i}u * threads] = bitcast<vec4u>(vec4f(top${i}, 0.0, 0.0, 0.0));
#endfor
        if (li == 0u) { atomicStore(&passing, 0u); }
        workgroupBarrier();
#for i in 0..UNITS
        {
          var top = base${i};
          for (var e = 0u; e < ${ROWS}u / unit; e++) { top = max(top, bitcast<vec4f>(tile[row${i} * (${ROWS}u / unit) + e]).x); }
          let factor = exp(base${i} - top);
          base${i} = top;
          total${i} *= factor;
          if (column${i} == 0u) { factors[row${i}] = factor; }
        }
#endfor
        workgroupBarrier();
        let at = subgroup * ${SCALED * MM * MN / 4}u;
#for round in 0..D / MN / ACROSS / SCALED
#for j in 0..SCALED
        subgroupMatrixStore<row_major>(&tile, at + ${j * MM * MN / 4}u, sumP${round * SCALED + j}, ${MN / 4}u);
#endfor
        workgroupBarrier();
        for (var e = lane; e < ${MM * MN / 4}u; e += ${SG}u) {
          let factor = factors[strip + e / ${MN / 4}u];
#for j in 0..SCALED
          tile[at + ${j * MM * MN / 4}u + e] = bitcast<vec4u>(bitcast<vec4f>(tile[at + ${j * MM * MN / 4}u + e]) * factor);
#endfor
        }
        workgroupBarrier();
#for j in 0..SCALED
        sumP${round * SCALED + j} = subgroupMatrixLoad<Result, row_major>(&tile, at + ${j * MM * MN / 4}u, ${MN / 4}u);
#endfor
        workgroupBarrier();
#endfor
      }
#for i in 0..UNITS
#for h in 0..QUADS
      p${i}_${h} = select(vec4f(0.0), exp(p${i}_${h} - base${i}), p${i}_${h} > vec4f(hidden));
      total${i} += dot(p${i}_${h}, vec4f(1.0));
#endfor
#endfor
#endif
#for i in 0..UNITS
#if forward || keys
      putWeights(row${i} * weightStride + column${i} / unit, p${i}_0${E == 'f32' ? '' : ', p' + i + '_1'});
#endif
#if keys || queries
      putWeights(gradients + row${i} * weightStride + column${i} / unit, d${i}_0${E == 'f32' ? '' : ', d' + i + '_1'});
#endif
#endfor
      workgroupBarrier();
      for (var r = 0u; r < ${ROWS}u; r += ${MK}u) {
#if forward || keys
        let weights = subgroupMatrixLoad<Left, row_major>(&tile, strip * weightStride + r / unit, weightStride);
#for j in 0..D / MN / ACROSS
        sumP${j} = subgroupMatrixMultiplyAccumulate(weights, subgroupMatrixLoad<Right, row_major>(&staged, second + r * stride + (part * ${D / ACROSS}u + ${j * MN}u) / unit, stride), sumP${j});
#endfor
#endif
#if keys || queries
        let grads = subgroupMatrixLoad<Left, row_major>(&tile, gradients + strip * weightStride + r / unit, weightStride);
#for j in 0..D / MN / ACROSS
        sumD${j} = subgroupMatrixMultiplyAccumulate(grads, subgroupMatrixLoad<Right, row_major>(&staged, r * stride + (part * ${D / ACROSS}u + ${j * MN}u) / unit, stride), sumD${j});
#endfor
#endif
      }
      workgroupBarrier();
      }
    }
  }
#if forward
  // A row's total from those that shared it.
#for i in 0..UNITS
  tile[li + ${i}u * threads] = bitcast<vec4u>(vec4f(total${i}, 0.0, 0.0, 0.0));
#endfor
  workgroupBarrier();
#for i in 0..UNITS
  if (column${i} == 0u) {
    var total = 0.0;
    for (var e = 0u; e < ${ROWS}u / unit; e++) { total += bitcast<vec4f>(tile[row${i} * (${ROWS}u / unit) + e]).x; }
    factors[row${i}] = 1.0 / total;
    if (own0 + row${i} < rows) { lse[(own0 + row${i}) * p.heads + wg.y] = base${i} + log(total); }
  }
#endfor
#endif

  // Matrices have no element access: results leave through workgroup memory, EJ of each subgroup at a time.
#for sum in 0..keys ? 2 : 1
#for round in 0..D / MN / ACROSS / EJ
#for j in 0..EJ
  subgroupMatrixStore<row_major>(&staged, subgroup * share + ${j * MN / 4}u, ${(keys ? sum == 0 : forward) ? 'sumP' : 'sumD'}${round * EJ + j}, ${EJ * MN / 4}u);
#endfor
  workgroupBarrier();
  for (var e = lane; e < share; e += ${SG}u) {
    let row = own0 + strip + e / ${EJ * MN / 4}u;
    let at = (row * ownHeads + wg.y) * ${D / 4}u + part * ${D / ACROSS / 4}u + ${round * EJ * MN / 4}u + e % ${EJ * MN / 4}u;
    if (row < rows) {
      ${forward ? 'o' : queries ? 'dq' : (sum == 0 ? 'dv' : 'dk')}[at] = vec4<f16>(bitcast<vec4f>(staged[subgroup * share + e])${forward ? ' * factors[strip + e / ' + EJ * MN / 4 + 'u]' : ''});
    }
  }
  workgroupBarrier();
#endfor
#endfor
}
