"""PyTorch, on the processor or on CUDA. Asked as the JavaScript peers are: see serve.ts.

    python3 pytorch.py cpu THREADS FOLDER        python3 pytorch.py cuda 0 FOLDER
"""

import json
import math
import re
import sys
import time

import torch
import torch.nn.functional as F

DEVICE, THREADS, FOLDER = sys.argv[1], int(sys.argv[2]), sys.argv[3]
SAMPLE_MS, MOST_REPEATS = 30, 256


class Given:
    """The work's manifest and its tensors."""

    def __init__(self, folder):
        with open(f"{folder}/manifest.json") as file:
            manifest = json.load(file)
        with open(f"{folder}/tensors.bin", "rb") as file:
            self.bytes = bytearray(file.read())
        self.kind, self.settings = manifest["kind"], manifest["settings"]
        self.rehearsals = manifest["rehearsals"]
        self.tensors = {entry["name"]: entry for entry in manifest["tensors"]}

    def load(self, name):
        entry = self.tensors[name]
        dtype = torch.float32 if entry["dtype"] == "f32" else torch.int32
        size = math.prod(entry["shape"])
        values = torch.frombuffer(self.bytes, dtype=dtype, count=size, offset=entry["offset"])
        values = values.reshape(entry["shape"]).clone().to(DEVICE)
        return values.long() if dtype == torch.int32 else values

    def load_all(self):
        return {name: self.load(name) for name in self.tensors}


def settle():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def some_of(tensor, n=16):
    """Some elements, spread evenly: the same as someOf() of serve.ts."""
    flat = tensor.detach().reshape(-1)
    at = [(2 * i + 1) * flat.numel() // (2 * n) for i in range(n)]
    return flat[at].tolist()


def forward(given, compute):
    inputs = given.load_all()

    def run():
        with torch.no_grad():
            run.y = compute(inputs)

    return run, settle, lambda: some_of(run.y)


def forward_and_backward(given, trained, compute):
    inputs = given.load_all()
    wanting = [inputs[name].requires_grad_() for name in trained]

    def run():
        run.y = compute(inputs)
        run.gradients = torch.autograd.grad(run.y, wanting, inputs["dy"])

    return run, settle, lambda: sum(map(some_of, [run.y, *run.gradients]), [])


def loss_of(p, ids, labels, s):
    """Mean cross-entropy of the encoder over all tokens. p: parameters by name; ids, labels [B, T]."""
    B, T, C, heads = s["batch"], s["tokens"], s["channels"], s["heads"]

    def norm(x, name):
        return F.layer_norm(x, (C,), p[f"{name}.weight"], p[f"{name}.bias"], s["eps"])

    def dense(x, name):
        return torch.addmm(p[f"{name}.bias"], x, p[f"{name}.weight"])

    def split(x):
        return x.reshape(B, T, heads, C // heads).transpose(1, 2)  # [B, H, T, D]

    x = (F.embedding(ids, p["words"]) + p["positions"]).reshape(B * T, C)
    for i in range(s["layers"]):
        q, k, v = map(split, dense(norm(x, f"{i}.norm1"), f"{i}.qkv").split(C, -1))
        attended = attention(q, k, v).transpose(1, 2).reshape(B * T, C)
        x = x + dense(attended, f"{i}.proj")
        inner = F.gelu(dense(norm(x, f"{i}.norm2"), f"{i}.up"), approximate="tanh")
        x = x + dense(inner, f"{i}.down")
    return F.cross_entropy(norm(x, "norm") @ p["head"], labels.reshape(-1))


def attention(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):  # from 2.0 on
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v


def step(given):
    settings = given.settings
    tensors = given.load_all()
    ids, labels = tensors.pop("ids"), tensors.pop("labels")
    parameters = {name: value.requires_grad_() for name, value in tensors.items()}
    matrices = [x for x in parameters.values() if x.dim() > 1]
    vectors = [x for x in parameters.values() if x.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": settings["weightDecay"]},
        {"params": vectors, "weight_decay": 0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings["lr"])

    def run():
        optimiser.zero_grad(set_to_none=True)
        run.loss = loss_of(parameters, ids, labels, settings)
        run.loss.backward()
        optimiser.step()

    return run, settle, lambda: [run.loss.item()]


def matmul(given):
    transpose_a, transpose_b = given.settings["transposeA"], given.settings["transposeB"]

    def compute(inputs):
        a, b = inputs["a"], inputs["b"]
        return torch.matmul(a.t() if transpose_a else a, b.t() if transpose_b else b)

    return forward(given, compute)


def layer_norm(given):
    def compute(inputs):
        x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, given.settings["eps"])

    return forward_and_backward(given, ["x", "weight", "bias"], compute)


WORKS = {
    "step": step,
    "matmul": matmul,
    "layerNorm": layer_norm,
    "softmax": lambda given: forward_and_backward(given, ["x"], lambda inputs: inputs["x"].softmax(-1)),
    "gelu": lambda given: forward(given, lambda inputs: F.gelu(inputs["x"], approximate="tanh")),
}


def milliseconds(run, settle, repeats):
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    settle()
    return 1000 * (time.perf_counter() - started)


def find_repeats(run, settle):
    """How often the work is done between two waits, so that a sample is long enough. Fixed from then on."""
    milliseconds(run, settle, 1)
    fastest = milliseconds(run, settle, 1)
    return max(1, min(MOST_REPEATS, math.ceil(SAMPLE_MS / fastest)))


def peak_mib():
    """The process's largest resident memory so far."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float("nan")


def tell(message):
    print(json.dumps(message), flush=True)


def blas():
    """The library by which products of matrices are computed on the processor; None where it is inside PyTorch."""
    with open("/proc/self/maps") as file:
        names = re.findall(r"/(lib(?:openblas|mkl_rt|blis|blas)[^/\n]*\.so[^/\n]*)", file.read())
    return " ".join(sorted(set(names))) or None


def note():
    library = blas() if DEVICE == "cpu" else None
    if library is None or re.search("openblas|mkl|blis", library):
        return None
    return f"multiplies by the reference BLAS ({library}), many times slower than OpenBLAS: install libopenblas0"


def versions():
    adapter = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{torch.get_num_threads()} threads"
    return {"torch": torch.__version__, "adapter": adapter, "blas": blas() or "PyTorch's own"}


def serve():
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch: this PyTorch sees no CUDA device")
    if THREADS:
        torch.set_num_threads(THREADS)
    torch.backends.cuda.matmul.allow_tf32 = False  # f32 throughout, as the others
    given = Given(FOLDER)
    run, settle, figures = WORKS[given.kind](given)
    found = []
    for _ in range(given.rehearsals):
        run()
        found += figures()
    repeats = find_repeats(run, settle)
    tell({"versions": versions(), "figures": found, "note": note()})
    for line in sys.stdin:
        until = time.perf_counter() + json.loads(line)["seconds"]
        samples = [milliseconds(run, settle, repeats) / repeats]
        while time.perf_counter() < until:
            samples.append(milliseconds(run, settle, repeats) / repeats)
        tell({"samples": samples, "peakMiB": peak_mib()})


try:
    serve()
except Exception as error:  # whatever it is, it is this peer's answer
    tell({"cannot": str(error)})
