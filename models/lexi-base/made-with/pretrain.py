#!/usr/bin/python3
"""Pretrain the Llama-architecture LM on train.npy, or with --rows on rows of which some tokens are not learnt (CPU).
Usage: OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NPROC=2 [BATCH=8] pretrain.py MINUTES [--bench] [--init=model --lr=1e-3] [--rows=rows.npz] [--out=model]
every 400 steps the current weights are saved in model/. With OpenBLAS, and glibc kept from giving memory back after every step
(MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=4000000000), it is several times as fast."""
import sys, time, math, json, os, numpy as np, torch, torch.nn as nn, torch.nn.functional as F
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1))); torch.manual_seed(1)
CFG = dict(V=8192, H=192, L=6, nh=6, nkv=3, hd=32, ff=512, eps=1e-5, theta=10000.0)
for a in sys.argv:
    if a.startswith('--cfg='): CFG.update(json.loads(a[6:]))
class Layer(nn.Module):
    def __init__(s, c):
        super().__init__(); H, q, kv = c['H'], c['nh'] * c['hd'], c['nkv'] * c['hd']; s.c = c
        s.qkv = nn.Linear(H, q + 2 * kv, bias=False); s.o = nn.Linear(q, H, bias=False); s.gu = nn.Linear(H, 2 * c['ff'], bias=False); s.down = nn.Linear(c['ff'], H, bias=False)
        s.n1 = nn.Parameter(torch.ones(H)); s.n2 = nn.Parameter(torch.ones(H))
    def forward(s, x, cos, sin, mask):
        c = s.c; B, T, H = x.shape; nh, nkv, hd = c['nh'], c['nkv'], c['hd']
        y = s.qkv(rms(x, s.n1, c['eps'])).view(B, T, nh + 2 * nkv, hd); qk, v = y[:, :, :nh + nkv], y[:, :, nh + nkv:]
        h2 = hd // 2; qk = qk * cos + torch.cat((-qk[..., h2:], qk[..., :h2]), -1) * sin
        q = qk[:, :, :nh].reshape(B, T, nkv, nh // nkv, hd).permute(0, 2, 3, 1, 4).reshape(B * nkv, -1, hd)      # query head h uses kv head h // (nh/nkv)
        k = qk[:, :, nh:].permute(0, 2, 3, 1).reshape(B * nkv, hd, T); v = v.permute(0, 2, 1, 3).reshape(B * nkv, T, hd)
        a = torch.bmm(q, k).view(B * nkv, nh // nkv, T, T) * hd ** -.5 + mask
        a = torch.softmax(a.float(), -1).to(v.dtype).view(B * nkv, -1, T); y = torch.bmm(a, v).view(B, nkv, nh // nkv, T, hd).permute(0, 3, 1, 2, 4).reshape(B, T, -1)
        x = x + s.o(y); g, u = s.gu(rms(x, s.n2, c['eps'])).chunk(2, -1)
        return x + s.down(F.silu(g) * u)
def rms(x, w, eps): return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w
class LM(nn.Module):
    def __init__(s, c):
        super().__init__(); s.c = c; s.emb = nn.Embedding(c['V'], c['H']); s.layers = nn.ModuleList(Layer(c) for _ in range(c['L'])); s.norm = nn.Parameter(torch.ones(c['H']))
        for p in s.parameters():
            if p.dim() == 2: nn.init.normal_(p, 0, .02 if p is s.emb.weight else 1 / math.sqrt(p.shape[1]))
        for l in s.layers:
            for w in (l.o, l.down): w.weight.data *= 1 / math.sqrt(2 * c['L'])
    def rope(s, T):
        f = torch.outer(torch.arange(T).float(), s.c['theta'] ** (-torch.arange(0, s.c['hd'], 2).float() / s.c['hd'])); f = torch.cat((f, f), -1)
        return f.cos()[None, :, None], f.sin()[None, :, None]
    def hidden(s, ids):
        T = ids.shape[1]; x = s.emb(ids); cos, sin = s.rope(T); m = torch.full((T, T), -1e9).triu(1)
        for l in s.layers: x = l(x, cos, sin, m)
        return rms(x, s.norm, s.c['eps'])
    def forward(s, ids): return s.hidden(ids) @ s.emb.weight.t()
def loss_fn(m, x, y, neg=0):
    """Full softmax, or (neg>0) the batch's own target tokens exactly + `neg` uniform others with their share of the partition function."""
    h = m.hidden(x).reshape(-1, m.c['H']); y = y.reshape(-1); h, y = h[y >= 0], y[y >= 0]
    if not neg: return F.cross_entropy(h @ m.emb.weight.t(), y)
    V = m.c['V']; U, inv = torch.unique(y, return_inverse=True); seen = torch.zeros(V, dtype=torch.bool); seen[U] = True
    rest = (~seen).nonzero()[:, 0]; sel = rest[torch.randint(len(rest), (neg,))]
    W = F.embedding(torch.cat((U, sel)), m.emb.weight); z = h @ W.t(); b = torch.zeros(z.shape[1]); b[len(U):] = math.log(len(rest) / neg)
    return F.cross_entropy(z + b, inv)
def save_hf(m, out, extra=None):
    c = m.c; t = {'model.embed_tokens.weight': m.emb.weight, 'model.norm.weight': m.norm}; q, kv = c['nh'] * c['hd'], c['nkv'] * c['hd']
    for i, l in enumerate(m.layers):
        p = f'model.layers.{i}.'; w = l.qkv.weight
        t.update({p + 'self_attn.q_proj.weight': w[:q], p + 'self_attn.k_proj.weight': w[q:q + kv], p + 'self_attn.v_proj.weight': w[q + kv:], p + 'self_attn.o_proj.weight': l.o.weight,
            p + 'mlp.gate_proj.weight': l.gu.weight[:c['ff']], p + 'mlp.up_proj.weight': l.gu.weight[c['ff']:], p + 'mlp.down_proj.weight': l.down.weight,
            p + 'input_layernorm.weight': l.n1, p + 'post_attention_layernorm.weight': l.n2})
    hdr, blobs, o = {'__metadata__': {'format': 'pt'}}, [], 0
    for k in sorted(t):
        b = t[k].detach().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes(); hdr[k] = dict(dtype='BF16', shape=list(t[k].shape), data_offsets=[o, o + len(b)]); o += len(b); blobs.append(b)
    h = json.dumps(hdr, separators=(',', ':')).encode(); h += b' ' * (-len(h) % 8); os.makedirs(out, exist_ok=True)
    with open(out + '/model.safetensors', 'wb') as f: f.write(len(h).to_bytes(8, 'little') + h); [f.write(b) for b in blobs]
    json.dump(dict(architectures=['LlamaForCausalLM'], model_type='llama', vocab_size=c['V'], hidden_size=c['H'], intermediate_size=c['ff'], num_hidden_layers=c['L'], num_attention_heads=c['nh'], num_key_value_heads=c['nkv'], head_dim=c['hd'],
        hidden_act='silu', max_position_embeddings=512, initializer_range=.02, rms_norm_eps=c['eps'], rope_theta=c['theta'], rope_scaling=None, attention_bias=False, attention_dropout=0.0, mlp_bias=False, pretraining_tp=1, tie_word_embeddings=True, use_cache=True,
        bos_token_id=None, eos_token_id=8191, pad_token_id=8189, torch_dtype='bfloat16', transformers_version='4.46.0'), open(out + '/config.json', 'w'), indent=2)
    json.dump(dict(_from_model_config=True, bos_token_id=None, eos_token_id=[8191, 8189], pad_token_id=8189, max_new_tokens=48, transformers_version='4.46.0'), open(out + '/generation_config.json', 'w'), indent=2)
def load_hf(out):
    j = json.load(open(out + '/config.json')); c = dict(V=j['vocab_size'], H=j['hidden_size'], L=j['num_hidden_layers'], nh=j['num_attention_heads'], nkv=j['num_key_value_heads'], hd=j['head_dim'], ff=j['intermediate_size'], eps=j['rms_norm_eps'], theta=j['rope_theta'])
    b = open(out + '/model.safetensors', 'rb').read(); n = int.from_bytes(b[:8], 'little'); h = json.loads(b[8:8 + n]); m = LM(c)
    def T(k): e = h[k]; s, t = e['data_offsets']; return torch.frombuffer(bytearray(b[8 + n + s:8 + n + t]), dtype=torch.bfloat16).view(e['shape']).float()
    with torch.no_grad():
        m.emb.weight.copy_(T('model.embed_tokens.weight')); m.norm.copy_(T('model.norm.weight'))
        for i, l in enumerate(m.layers):
            p = f'model.layers.{i}.'; l.qkv.weight.copy_(torch.cat([T(p + f'self_attn.{x}_proj.weight') for x in 'qkv'])); l.o.weight.copy_(T(p + 'self_attn.o_proj.weight')); l.gu.weight.copy_(torch.cat([T(p + f'mlp.{x}_proj.weight') for x in ('gate', 'up')]))
            l.down.weight.copy_(T(p + 'mlp.down_proj.weight')); l.n1.copy_(T(p + 'input_layernorm.weight')); l.n2.copy_(T(p + 'post_attention_layernorm.weight'))
    return m
def svd_init(m):
    """Start from statistics of the same corpus: token embeddings = truncated SVD of the token-token PPMI matrix (window 16 inside train.npy),
    and attention value/output maps near a partial identity, so that at step 0 the context already votes for tokens of its own topic."""
    c = m.c; H = c['H']; V = c['V']; f = 'svd_init.npy'
    if not os.path.exists(f):
        t = np.load('train.npy').astype(np.int64); C = np.zeros(V * V, np.float32)
        for d in range(1, 17): C += np.bincount(t[:-d] * V + t[d:], minlength=V * V).astype(np.float32) * (1.0 if d < 9 else .6)
        C = C.reshape(V, V); C[8189] = 0; C[:, 8189] = 0; C = C + C.T; r = C.sum(1) + 1; cs = r ** .75; cs /= cs.sum()
        Pm = np.log(np.maximum(C / r[:, None] / cs[None], 1e-9)) - .3; Pm[(C < 1.5) | (Pm < 0)] = 0; Pm *= C / (C + 3)
        Y = Pm @ np.random.default_rng(0).standard_normal((V, H + 30)).astype(np.float32)
        for _ in range(2): Y = Pm @ (Pm.T @ np.linalg.qr(Y)[0])
        Q = np.linalg.qr(Y)[0]; U, S, _ = np.linalg.svd(Q.T @ Pm, full_matrices=False); E = (Q @ U[:, 1:H + 1]) * S[1:H + 1] ** .35; E -= E.mean(0); n = np.linalg.norm(E, axis=1, keepdims=True); E /= n + .1 * n.mean(); np.save(f, E.astype(np.float32))
    E = torch.from_numpy(np.load(f)); m.emb.weight.data = .6 * E + .15 * torch.randn(V, H) / math.sqrt(H); nkv, g, hd = c['nkv'], c['nh'] // c['nkv'], c['hd']; w = nkv * hd
    if '--no-ov' in sys.argv: return
    for i, l in enumerate(m.layers):
        o = (i * w) % H; vw = l.qkv.weight.data[(c['nh'] + nkv) * hd:]; vw *= .3; l.o.weight.data *= .3
        for k in range(nkv):
            for q in range(hd):
                dim = (o + k * hd + q) % H; vw[k * hd + q, dim] += .7
                for h in range(k * g, k * g + g): l.o.weight.data[dim, h * hd + q] += .05 / g
def train(rank, n, mins, bench, buf, ctl, bar):
    """n processes of one thread each (OpenMP with 2 threads stalls when other jobs hold a core); gradients averaged in shared memory, same AdamW step everywhere."""
    B, T = int(os.environ.get('BATCH', 8)), 128; NEG = 768; torch.manual_seed(1); m = LM(CFG)
    rows = next((np.load(a[7:]) for a in sys.argv if a.startswith('--rows=')), None); tr = np.load('train.npy') if rows is None else rows['rows']; learnt = None if rows is None else rows['learnt']; va = torch.from_numpy(np.load('valid.npy').astype(np.int64)); init = next((a[7:] for a in sys.argv if a.startswith('--init=')), None)
    if init: m = load_hf(init)                                                # go on from a saved model (new optimiser state and schedule)
    else: svd_init(m)
    torch.manual_seed(100 + rank)
    if not rank: print('params', sum(p.numel() for p in m.parameters()), CFG, flush=True)
    P = list(m.parameters()); dec = [p for k, p in m.named_parameters() if p.dim() == 2 and 'emb' not in k]; oth = [p for k, p in m.named_parameters() if p.dim() < 2 or 'emb' in k]
    LR = next((float(a[5:]) for a in sys.argv if a.startswith('--lr=')), 2e-3); opt = torch.optim.AdamW([dict(params=dec, weight_decay=.05, k=1.), dict(params=oth, weight_decay=0, k=.3)], lr=LR, betas=(.9, .95), eps=1e-8)
    def valid():
        k = min(64, (len(va) - 1) // T); x = va[:k * T].view(k, T); y = va[1:k * T + 1].view(k, T)
        with torch.no_grad(): return sum(loss_fn(m, x[i:i + 16], y[i:i + 16]).item() * len(x[i:i + 16]) for i in range(0, k, 16)) / k
    nch = (len(tr) - 1) // T - 1 if learnt is None else len(tr); bar.wait(); t0 = time.time(); step = seen = 0; ema = None; fr = 0.; ep = -1
    while fr < 1:
        if step * B * n // nch != ep: ep = step * B * n // nch; perm = np.random.default_rng(5 + ep + 1000 * bool(init)).permutation(nch); off = ep * 37 % T  # new order and chunk offset every epoch
        o = (step * n + rank) * B; ix = perm[np.arange(o, o + B) % nch]; chunk = torch.from_numpy((np.stack([tr[i:i + T + 1] for i in ix * T + off]) if learnt is None else tr[ix]).astype(np.int64)); said = chunk[:, 1:].clone()
        if learnt is not None: said[torch.from_numpy(learnt[ix][:, 1:] == 0)] = -1
        lr = LR * min(1, (step + 1) / 80) * (.01 + .99 * .5 * (1 + math.cos(math.pi * fr)))
        for g in opt.param_groups: g['lr'] = lr * g['k']
        with torch.autocast('cpu', dtype=torch.bfloat16): loss = loss_fn(m, chunk[:, :-1], said, NEG if fr < .85 else 0)   # last 15 %: exact softmax
        opt.zero_grad(set_to_none=True); loss.backward(); b = buf[step % 2]; torch.cat([p.grad.reshape(-1) for p in P], out=b[rank])
        if not rank: ctl[step % 2] = (time.time() - t0) / (mins * 60)         # schedule by wall time: cosine to 1 % at MINUTES
        bar.wait(); fr = ctl[step % 2].item(); g = b.mean(0); g *= min(1., 1. / (g.norm().item() + 1e-6)); o = 0
        for p in P: p.grad = g[o:o + p.numel()].view_as(p); o += p.numel()
        opt.step(); step += 1; seen += B * T * n; l = loss.item(); ema = l if ema is None else .98 * ema + .02 * l
        if rank: continue
        if step % (10 if bench else 50) == 0: print(f'step {step} tokens {seen} train {ema:.3f} lr {lr:.2e} {seen / (time.time() - t0):.0f} tok/s' + (f' valid {valid():.4f}' if step % 400 == 0 else ''), flush=True)
        if not bench and step % 400 == 0: save_hf(m, 'model')
    if not rank: save_hf(m, next((a[6:] for a in sys.argv if a.startswith('--out=')), 'model'))
    if not rank: print(f'DONE step {step} tokens {seen} minutes {(time.time() - t0) / 60:.1f} train {ema:.3f} valid {valid():.4f}', flush=True)
if __name__ == '__main__':
    import torch.multiprocessing as mp
    svd_init(LM(CFG)); n = int(os.environ.get('NPROC', 2)); nump = sum(p.numel() for p in LM(CFG).parameters()); buf = torch.zeros(2, n, nump).share_memory_(); ctl = torch.zeros(2, dtype=torch.float64).share_memory_(); bar = mp.get_context('fork').Barrier(n)
    ps = [mp.get_context('fork').Process(target=train, args=(r, n, float(sys.argv[1]), '--bench' in sys.argv, buf, ctl, bar)) for r in range(n)]
    [p.start() for p in ps]; [p.join() for p in ps]
