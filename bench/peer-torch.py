"""Times torch's matmul (and attention) on its GPU. Standard input: JSON with lists of shapes; output: the same with ms."""
import json
import sys

import torch


def median_ms(run, repetitions=7, least=60.0):
    """Median over repetitions of one run, by CUDA events around as many as take `least` ms."""
    def timed(times):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(times):
            run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / times

    timed(3)
    times = max(1, int(least / timed(3)) + 1)
    return sorted(timed(times) for _ in range(repetitions))[repetitions // 2]


def matmul(m, n, k):
    sets = [(torch.randn(m, k, device="cuda", dtype=torch.bfloat16), torch.randn(n, k, device="cuda", dtype=torch.bfloat16)) for _ in range(2)]
    turn = [0]

    def run():
        turn[0] ^= 1
        x, w = sets[turn[0]]
        return x @ w.T

    return median_ms(run)


def attention(rows, heads, kv_heads, dim):
    def make(count):
        return torch.randn(1, count, rows, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True)

    q, k, v, dout = make(heads), make(heads), make(heads), make(heads).detach()
    del kv_heads  # torch wants the keys repeated; that costs it nothing in arithmetic

    def forward():
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def both():
        forward().backward(dout)

    with torch.no_grad():
        alone = median_ms(forward)
    return [alone, median_ms(both)]


shapes = json.load(sys.stdin)
json.dump(
    {
        "name": f"torch {torch.__version__} bf16 on {torch.cuda.get_device_name()}",
        "matmul": [matmul(*shape) for shape in shapes["matmul"]],
        "attention": [attention(*shape) for shape in shapes["attention"]],
    },
    sys.stdout,
)
