// Draws a token for each row from softmax(logits · inverseTemperature): the greatest of logit · inverseTemperature − log e,
// e exponential and hashed from seed, position and token (Gumbel-max), so that a row's draw depends on its own numbers
// alone. A row by a workgroup of WG. Of equals the lowest id wins.
// GREEDY: the greatest logit. FILTER: only among the topK greatest logits (0: all), and of these the fewest, from the
// greatest down, that hold topP of their probability: found digit by digit (radix select) in sums that do not depend on
// the order of adding.
// PENALTY: logits of tokens already given in the row's slot are lowered by p.penalty; spared ones are never noted.
#include "decode-row.wgsl"
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;              // [rows, stride]
// (token, then as f32 its log-probability under the whole softmax, and the softmax's entropy in nats, 0)
@group(0) @binding(2) var<storage, read_write> sampled: array<vec4u>;       // [rows]
#if PENALTY
@group(0) @binding(3) var<storage, read_write> given: array<u32>;           // [slots, words] a bit for each token
@group(0) @binding(4) var<storage, read> spared: array<u32>;                // [words]
#endif
struct Params { vocab: u32, stride: u32, words: u32, penalty: f32, inverseTemperature: f32, topK: u32, topP: f32 }
@group(0) @binding(20) var<uniform> p: Params;
#include "batch.wgsl"
#include "random.wgsl"
const lowest = -1e20;
var<workgroup> tops: array<f32, ${WG}>;
var<workgroup> sums: array<f32, ${WG}>;
var<workgroup> moments: array<f32, ${WG}>;
var<workgroup> scores: array<f32, ${WG}>;
var<workgroup> tokens: array<u32, ${WG}>;
#if FILTER
var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> found: vec4u; // digits so far, what lies above them, what is wanted, whether more than that has these digits
#endif

// Logits of four tokens, the lowest number past the vocabulary's end.
fn load(row: u32, slot: u32, quad: u32) -> vec4f {
  var x = logits[row * (p.stride / 4u) + quad];
#if PENALTY
  let bits = given[slot * p.words + quad / 8u] >> (quad % 8u * 4u);
  x -= vec4f((vec4u(bits) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) * p.penalty;
#endif
  let first = vec4u(quad * 4u) + vec4u(0u, 1u, 2u, 3u);
  return select(vec4f(lowest), x, first < vec4u(p.vocab));
}

#if !GREEDY
// log of the exponential variates −log(1 − v) of hashes; v in (0, 1).
fn logExponential(hash: vec4u) -> vec4f {
  let v = min((vec4f(hash) + 0.5) * 0x1p-32, vec4f(0.99999994));
  // Of small v by 2·artanh(v / (2 − v)), because log is only so good near 1.
  let z = v / (2.0 - v);
  let y = z * z;
  let small = 2.0 * z * (1.0 + y * (1.0 / 3.0 + y * (0.2 + y * (1.0 / 7.0))));
  return log(select(-log(1.0 - v), small, v < vec4f(0.25)));
}
#endif

#if FILTER
// A number that grows with x, bit by bit.
fn keyOf(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}
#endif

@compute @workgroup_size(${WG})
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) li: u32) {
  let row = wg.x;
  if (row >= batch.logitRows) { return; }
  let slot = rows[2u * row].x;
  let length = rows[2u * row].w;
  let seed = rows[2u * row + 1u].zw;
  let quads = (p.vocab + 3u) / 4u;

  // The softmax's maximum, sum and mean of logarithms, and the greatest score where all tokens may be drawn.
  var top = lowest;
  var sum = 0.0;
  var moment = 0.0; // Σ exp(x − top) · (x − top)
  var score = lowest;
  var token = 0xffffffffu;
  for (var quad = li; quad < quads; quad += ${WG}u) {
    let x = load(row, slot, quad) * p.inverseTemperature;
    let most = max(top, max(max(x.x, x.y), max(x.z, x.w)));
    let shrink = exp(top - most);
    moment = shrink * (moment + (top - most) * sum);
    sum *= shrink;
    top = most;
    let weight = exp(x - most);
    sum += dot(weight, vec4f(1.0));
    moment += dot(weight, max(x - most, vec4f(-1e4)));
#if !FILTER
#if GREEDY
    let noisy = x;
#else
    let noisy = x - logExponential(pcg4d(vec4u(seed, length, quad)));
#endif
#for e in 0..4
    if (noisy[${e}] > score) { score = noisy[${e}]; token = quad * 4u + ${e}u; }
#endfor
#endif
  }
  tops[li] = top;
  sums[li] = sum;
  moments[li] = moment;
  workgroupBarrier();
  for (var half = ${WG}u / 2u; half > 0u; half /= 2u) {
    if (li < half) {
      let most = max(tops[li], tops[li + half]);
#for s in 0..2
      let by${s} = ${s == 0 ? 'tops[li]' : 'tops[li + half]'} - most;
      let sum${s} = ${s == 0 ? 'sums[li]' : 'sums[li + half]'};
      let moment${s} = ${s == 0 ? 'moments[li]' : 'moments[li + half]'};
#endfor
      tops[li] = most;
      sums[li] = sum0 * exp(by0) + sum1 * exp(by1);
      moments[li] = exp(by0) * (moment0 + max(by0, -1e4) * sum0) + exp(by1) * (moment1 + max(by1, -1e4) * sum1);
    }
    workgroupBarrier();
  }
  top = tops[0];
  sum = sums[0];
  moment = moments[0];

#if FILTER
  // Kept are the tokens with (key, ~token) at least (leastKey, leastRank), in lexicographic order.
  var leastKey = 0u;
  var leastRank = 0u;
  let perShare = 0x1p31 / sum; // the whole softmax is 2^31: to within vocab / 2^32 of it in all
  // The topK-th key and, where it is that of more tokens than there is room for, the last of them; then likewise by
  // probability.
  var tied = false;
  for (var turn = 0u; turn < 4u; turn++) {
    let byShare = turn >= 2u;
    let byRank = turn % 2u == 1u;
    if (byRank && !tied) { continue; }
    if (select(p.topK == 0u, p.topP >= 1.0, byShare)) { continue; }
    if (li == 0u) { found = vec4u(0u, select(0u, found.y, byRank), select(p.topK, found.z, byRank), 0u); }
    for (var shift = 24i; shift >= 0i; shift -= 8i) {
      let prefix = workgroupUniformLoad(&found).x;
      for (var i = li; i < 256u; i += ${WG}u) { atomicStore(&counts[i], 0u); }
      workgroupBarrier();
      for (var quad = li; quad < quads; quad += ${WG}u) {
        let x = load(row, slot, quad);
        let share = vec4u(exp(x * p.inverseTemperature - top) * perShare);
#for e in 0..4
        {
          let rank = ~(quad * 4u + ${e}u);
          let key = keyOf(x[${e}]);
          let kept = x[${e}] > lowest && (key > leastKey || (key == leastKey && rank >= leastRank));
          let digits = select(key, rank, byRank);
          // The top digit has no digits before it.
          let here = shift == 24i || (digits >> u32(shift + 8i)) == (prefix >> u32(shift + 8i));
          let size = select(1u, share[${e}], byShare);
          if (kept && here && size > 0u && (!byRank || key == leastKey)) {
            atomicAdd(&counts[(digits >> u32(shift)) & 255u], size);
          }
        }
#endfor
      }
      workgroupBarrier();
      if (li == 0u) {
        var above = found.y;
        var wanted = found.z;
        if (byShare && !byRank && shift == 24i) {
          var all = 0u;
          for (var i = 0u; i < 256u; i++) { all += atomicLoad(&counts[i]); }
          wanted = clamp(u32(ceil(p.topP * f32(all))), 1u, all);
        }
        var digit = 255u;
        var size = atomicLoad(&counts[digit]);
        while (digit > 0u && above + size < wanted) {
          above += size;
          digit--;
          size = atomicLoad(&counts[digit]);
        }
        let digits = prefix | (digit << u32(shift));
        let x = bitcast<f32>(digits ^ select(0xffffffffu, 0x80000000u, digits >= 0x80000000u));
        let one = select(1u, u32(exp(x * p.inverseTemperature - top) * perShare), byShare);
        found = vec4u(digits, above, wanted, u32(above + size >= wanted + one));
      }
    }
    let chosen = workgroupUniformLoad(&found);
    tied = false;
    if (byRank) {
      leastRank = max(leastRank, chosen.x);
      continue;
    }
    if (chosen.x > leastKey) {
      leastKey = chosen.x;
      leastRank = 0u;
    }
    tied = chosen.w == 1u;
  }
  for (var quad = li; quad < quads; quad += ${WG}u) {
    let x = load(row, slot, quad);
    let noisy = x * p.inverseTemperature - logExponential(pcg4d(vec4u(seed, length, quad)));
#for e in 0..4
    {
      let key = keyOf(x[${e}]);
      let kept = x[${e}] > lowest && (key > leastKey || (key == leastKey && ~(quad * 4u + ${e}u) >= leastRank));
      if (kept && noisy[${e}] > score) { score = noisy[${e}]; token = quad * 4u + ${e}u; }
    }
#endfor
  }
#endif
  scores[li] = score;
  tokens[li] = token;
  workgroupBarrier();
  for (var half = ${WG}u / 2u; half > 0u; half /= 2u) {
    if (li < half) {
      let other = scores[li + half];
      if (other > scores[li] || (other == scores[li] && tokens[li + half] < tokens[li])) {
        scores[li] = other;
        tokens[li] = tokens[li + half];
      }
    }
    workgroupBarrier();
  }
  if (li == 0u) {
    token = min(tokens[0], p.vocab - 1u); // where no logit is a number
    let logprob = load(row, slot, token / 4u)[token % 4u] * p.inverseTemperature - top - log(sum);
    // −Σ p·log p = log sum − Σ p·(x − top)
    let entropy = log(sum) - moment / sum;
    sampled[row] = vec4u(token, bitcast<u32>(logprob), bitcast<u32>(entropy), 0u);
#if PENALTY
    given[slot * p.words + token / 32u] |= (1u << (token % 32u)) & ~spared[token / 32u];
#endif
  }
}
