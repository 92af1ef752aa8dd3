"""The work of bench/gpu.ts in PyTorch: ceilings, kernels and training steps, eager and compiled, in f32, tf32 and bf16.

    python3 bench/peers/torch_gpu.py                everything on cuda; prints JSON as its last line
    python3 bench/peers/torch_gpu.py --small        sizes that run anywhere, on the CPU too
    python3 bench/peers/torch_gpu.py --seconds 1    samples of each case for so long (default 0.4)

Models are written out here, with the shapes and methods of bench/gpu/steps.ts: an encoder as RoBERTa's with a
classification head, weights random. With `transformers` and `peft` installed their LoRA step is measured too.
Needs PyTorch 1.13 or newer; `torch.compile` from 2.0 on.
"""
import argparse
import contextlib
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

options = argparse.ArgumentParser()
options.add_argument("--small", action="store_true")
options.add_argument("--seconds", type=float, default=0.4)
options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
options = options.parse_args()
device = torch.device(options.device)
on_gpu = device.type == "cuda"

if options.small:
    SQUARE, COPIED, ROWS, C, INNER, HEADS, TOKENS, VOCABULARY, PARAMETERS = 128, 2**16, 128, 64, 256, 2, 32, 1001, 2**14
else:
    SQUARE, COPIED, ROWS, C, INNER, HEADS, TOKENS, VOCABULARY, PARAMETERS = (
        4096, 2**26, 8192, 1024, 4096, 16, 128, 50257, 2**24)


def wait():
    if on_gpu:
        torch.cuda.synchronize()


def measure(run):
    """Median milliseconds of one call, over batches of calls with one wait at the end of each."""
    for _ in range(3):
        run()
    wait()
    started = time.perf_counter()
    run()
    wait()
    repeats = max(1, min(256, int(0.03 / max(time.perf_counter() - started, 1e-6))))
    times = []
    until = time.perf_counter() + options.seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(repeats):
            run()
        wait()
        times.append(1000 * (time.perf_counter() - started) / repeats)
    return statistics.median(times)


def normal(*shape, dtype=torch.float32, grad=False):
    return torch.randn(*shape, device=device, dtype=dtype, requires_grad=grad)


def forward_backward(compute, *inputs):
    """A call that runs forward and backward, from a gradient that is made once."""
    dy = torch.randn_like(compute(*inputs))

    def run():
        for x in inputs:
            x.grad = None
        compute(*inputs).backward(dy)

    return run


def without_gradients(compute, *inputs):
    inputs = [x.detach() for x in inputs]
    return lambda: compute(*inputs)


def kernels():
    """(name, amount in 1e9, unit, call), as bench/gpu/cases.ts has them."""
    def product(name, M, K, N, dtype=torch.float32):
        a, b = normal(M, K, dtype=dtype), normal(N, K, dtype=dtype)
        return (name, 2 * M * K * N / 1e9, "GFLOP/s", lambda: a @ b.t())

    copied = normal(COPIED)
    yield "copy", 8 * COPIED / 1e9, "GB/s", lambda: copied * 1
    yield product(f"product {SQUARE}³ f32", SQUARE, SQUARE, SQUARE)
    if on_gpu:
        yield product(f"product {SQUARE}³ f16", SQUARE, SQUARE, SQUARE, torch.float16)
        yield product(f"product {SQUARE}³ bf16", SQUARE, SQUARE, SQUARE, torch.bfloat16)
    for M, K, N in [(ROWS, C, C), (ROWS, C, INNER), (ROWS, INNER, C), (ROWS, C, 8), (ROWS, 8, C), (ROWS, C, 16), (ROWS, 16, C)]:
        yield product(f"nt {M}x{K}x{N}", M, K, N)
    for rank in (8, 16):  # gradients of low-rank weights
        few, many = normal(ROWS, rank), normal(ROWS, C)
        yield f"tn {rank}x{ROWS}x{C}", 2 * ROWS * C * rank / 1e9, "GFLOP/s", lambda a=few, b=many: a.t() @ b
        yield f"tn {C}x{ROWS}x{rank}", 2 * ROWS * C * rank / 1e9, "GFLOP/s", lambda a=many, b=few: a.t() @ b
    traffic = lambda times, *shape: 4 * times * torch.Size(shape).numel() / 1e9
    x, weight, bias = normal(ROWS, C, grad=True), normal(C, grad=True), normal(C, grad=True)
    yield (f"layerNorm fwd+bwd {ROWS}x{C}", traffic(7, ROWS, C), "GB/s",
           forward_backward(lambda x, w, b: F.layer_norm(x, (C,), w, b), x, weight, bias))
    yield (f"softmax fwd+bwd {ROWS}x{C}", traffic(5, ROWS, C), "GB/s",
           forward_backward(lambda x: F.softmax(x, -1), normal(ROWS, C, grad=True)))
    yield (f"gelu fwd+bwd {ROWS}x{INNER}", traffic(5, ROWS, INNER), "GB/s",
           forward_backward(F.gelu, normal(ROWS, INNER, grad=True)))
    long = min(8 * TOKENS, ROWS)
    for length, heads, causal in [(TOKENS, HEADS, False), (long, HEADS, False), (long, HEADS, True), (long, HEADS // 2, False)]:
        q, k, v = (normal(ROWS // length, heads, length, C // heads, grad=True) for _ in range(3))
        amount = 2 * ROWS * C * length / 1e9 * (0.5 if causal else 1)
        name = f"{ROWS // length}x{length}, {heads} heads of {C // heads}{', causal' if causal else ''}"
        call = lambda q, k, v, causal=causal: attend(q, k, v, causal)
        yield f"attention fwd {name}", 2 * amount, "GFLOP/s", without_gradients(call, q, k, v)
        yield f"attention fwd+bwd {name}", 7 * amount, "GFLOP/s", forward_backward(call, q, k, v)
    some = -(-ROWS // 4)
    labels = torch.randint(VOCABULARY, (some,), device=device)
    yield (f"crossEntropy fwd+bwd {some}x{VOCABULARY}", traffic(3, some, VOCABULARY), "GB/s",
           forward_backward(lambda z: F.cross_entropy(z, labels), normal(some, VOCABULARY, grad=True)))
    ids = torch.randint(VOCABULARY, (ROWS,), device=device)
    yield (f"embedding fwd+bwd {ROWS}x{C} of {VOCABULARY} rows", traffic(1, 3 * ROWS + VOCABULARY, C), "GB/s",
           forward_backward(lambda table: F.embedding(ids, table), normal(VOCABULARY, C, grad=True)))
    parameter = nn.Parameter(normal(PARAMETERS))
    parameter.grad = normal(PARAMETERS)
    optimiser = torch.optim.AdamW([parameter], lr=1e-3)
    yield f"AdamW {PARAMETERS} parameters", traffic(7, PARAMETERS), "GB/s", optimiser.step


def attend(q, k, v, causal=False):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf"), device=q.device).triu(1)
    return F.softmax(scores, -1) @ v


class Adapter(nn.Module):
    """x + W_up gelu(W_down x), M experts of W_down and one W_up; a draw for each pass of the batch."""

    def __init__(self, channels, bottleneck, experts=1):
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(channels, bottleneck) for _ in range(experts))
        self.up = nn.Linear(bottleneck, channels)
        self.route = [0]

    def forward(self, x):
        parts = x.chunk(len(self.route))
        inside = torch.cat([F.gelu(self.down[i](part)) for i, part in zip(self.route, parts)])
        return x + self.up(inside)


class LowRank(nn.Module):
    """W x + alpha / r B A x."""

    def __init__(self, inner, rank):
        super().__init__()
        self.inner = inner
        self.a = nn.Parameter(torch.randn(rank, inner.in_features) * 0.02)
        self.b = nn.Parameter(torch.zeros(inner.out_features, rank))

    def forward(self, x):
        return self.inner(x) + 2.0 * F.linear(F.linear(x, self.a), self.b)


class Layer(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(channels, channels) for _ in range(4))
        self.inner, self.outer = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.adapter = nn.Identity()

    def forward(self, x):
        B, T, channels = x.shape
        split = lambda y: y.view(B, T, self.heads, -1).transpose(1, 2)
        seen = attend(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        x = self.norm1(x + self.output(seen.transpose(1, 2).reshape(B, T, channels)))
        return self.norm2(x + self.adapter(self.outer(F.gelu(self.inner(x)))))


class Encoder(nn.Module):
    def __init__(self, layers, channels, heads, vocabulary, tokens):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, channels), nn.Embedding(tokens, channels)
        self.norm = nn.LayerNorm(channels)
        self.layers = nn.ModuleList(Layer(channels, heads) for _ in range(layers))
        self.head = nn.Sequential(nn.Linear(channels, channels), nn.Tanh(), nn.Linear(channels, 3))

    def forward(self, ids):
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


def adapt(model, method):
    """Freezes the base and puts the method in; full fine-tuning leaves it as it is."""
    if method == "full":
        return
    for parameter in model.parameters():
        parameter.requires_grad = False
    for parameter in model.head.parameters():
        parameter.requires_grad = True
    for layer in model.layers:
        if method == "lora":
            layer.query, layer.value = LowRank(layer.query, 8), LowRank(layer.value, 8)
        else:
            layer.adapter = Adapter(layer.query.in_features, 16, 4 if method.startswith("adamix") else 1)
    model.to(device)


def two_pass_loss(logits, labels):
    first, second = logits.chunk(2)
    p, q = F.log_softmax(first, -1), F.log_softmax(second, -1)
    term = lambda a, b: F.kl_div(a, b.detach(), reduction="batchmean", log_target=True)
    return F.cross_entropy(first, labels) + 0.5 * (term(p, q) + term(q, p))


def training_step(sizes, method, passes, precision, compiled):
    layers, channels, heads, vocabulary, batch, tokens = sizes
    torch.manual_seed(1)
    model = Encoder(layers, channels, heads, vocabulary, tokens).to(device)
    adapt(model, method)
    adapters = [layer.adapter for layer in model.layers if isinstance(layer.adapter, Adapter)]
    forward = torch.compile(model) if compiled else model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(vocabulary, (batch, tokens), device=device)
    labels = torch.arange(batch, device=device) % 3
    cast = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    count = 0

    def step():
        nonlocal count
        for i, each in enumerate(adapters):
            each.route = [(i + count + p) % len(each.down) for p in range(passes)]
        count += 1
        optimiser.zero_grad(set_to_none=True)
        with cast:
            logits = forward(ids.repeat(passes, 1)).float()
        loss = two_pass_loss(logits, labels) if passes == 2 else F.cross_entropy(logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return step


def peft_step(sizes, precision):
    """RoBERTa with LoRA by transformers and peft; None where they are not installed."""
    try:
        from peft import LoraConfig, get_peft_model
        from transformers import RobertaConfig, RobertaForSequenceClassification
    except ImportError:
        return None
    layers, channels, heads, vocabulary, batch, tokens = sizes
    config = RobertaConfig(vocab_size=vocabulary, hidden_size=channels, num_hidden_layers=layers, num_attention_heads=heads,
                           intermediate_size=4 * channels, max_position_embeddings=tokens + 2, num_labels=3,
                           hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    base = RobertaForSequenceClassification(config).to(device)
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(5, vocabulary, (batch, tokens), device=device)
    labels = torch.arange(batch, device=device) % 3
    cast = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()

    def step():
        optimiser.zero_grad(set_to_none=True)
        with cast:
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return step


def main():
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    print(f"PyTorch {torch.__version__} on {name}")
    rows = []

    def report(kind, name, ms, rate=None, unit=None):
        rows.append({"kind": kind, "name": name, "medianMs": ms, "rate": rate, "unit": unit})
        print(f"{kind:18} {name:60} {ms:10.4f} ms" + (f" {rate:10.1f} {unit}" if rate else ""), flush=True)

    precisions = [("f32", False), ("tf32", True)] if on_gpu else [("f32", False)]
    for precision, allowed in precisions:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        for case, amount, unit, run in kernels():
            if precision == "tf32" and unit != "GFLOP/s":
                continue
            ms = measure(run)
            report(f"kernel {precision}", case, ms, amount / (ms / 1000), unit)
    small = (2, 64, 2, 1001, 2, 16)
    models = [("RoBERTa-base", small if options.small else (12, 768, 12, 50265, 32, 128)),
              ("RoBERTa-large", small if options.small else (24, 1024, 16, 50265, 32, 128))]
    methods = [("full", "full", 1), ("LoRA r8", "lora", 1), ("adapter r16", "adapter", 1),
               ("AdaMix adapter, one pass", "adamix", 1), ("AdaMix adapter, two in one batch", "adamix", 2)]
    can_compile = hasattr(torch, "compile") and on_gpu
    for model, sizes in models:
        for precision in ["f32", "tf32", "bf16"] if on_gpu else ["f32"]:
            torch.backends.cuda.matmul.allow_tf32 = precision != "f32"
            for label, method, passes in methods:
                # Compiling takes a minute: one method stands for all.
                for compiled in [False, True] if can_compile and method == "adapter" else [False]:
                    step = training_step(sizes, method, passes, precision, compiled)
                    report(f"step {precision}{' compiled' if compiled else ''}", f"{model}, {label}", measure(step))
                    del step
            step = peft_step(sizes, precision)
            if step:
                report(f"step {precision} peft", f"{model}, LoRA r8", measure(step))
            else:
                print("peft or transformers is not installed: their step is left out", file=sys.stderr)
    print(json.dumps({"torch": torch.__version__, "device": name, "results": rows}))


main()
