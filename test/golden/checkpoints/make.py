"""Makes the checkpoints of this folder: python3 make.py (PyTorch 1.13).

Stand-ins for what the AdaMix authors' programs and microsoft/LoRA write: modules with the same names and shapes, of a
model with 2 layers of 12 channels. What they compute, experts merged, is in values.json.
"""
import json
import torch
from torch import nn
from torch.nn import functional as F

LAYERS, C, R, M = 2, 12, 3, 4


def rounded(module):
    for parameter in module.parameters():
        parameter.data = (torch.randn_like(parameter) * 0.3).float()
    return module


class Side(nn.Module):
    def __init__(self, inputs, outputs, experts, tuned):
        super().__init__()
        self.deepspeed_experts = nn.ModuleList([rounded(nn.Linear(inputs, outputs)) for _ in range(experts)])
        scores = torch.randn(experts) if tuned else torch.zeros(experts)
        self.expert_score_weight = nn.Parameter(scores, requires_grad=False)

    def merged(self, x):
        weights = F.softmax(self.expert_score_weight.double(), dim=-1)
        weight = sum(w * e.weight.double() for w, e in zip(weights, self.deepspeed_experts))
        bias = sum(w * e.bias.double() for w, e in zip(weights, self.deepspeed_experts))
        return x @ weight.t() + bias


class ExpertSoup(nn.Module):
    def __init__(self, act, tuned, up):
        super().__init__()
        self.MoA_A, self.MoA_B, self.act = Side(C, R, M, tuned), Side(R, C, up, tuned), act

    def forward(self, h):
        return h + self.MoA_B.merged(self.act(self.MoA_A.merged(h)))


class CAttn(nn.Module):
    """LoRA of queries and values in one pair of tensors; with experts, or one pair as in loralib."""

    def __init__(self, experts):
        super().__init__()
        pair = lambda: (nn.Parameter(torch.randn(2 * R, C) * 0.3), nn.Parameter(torch.randn(2 * C, R) * 0.3))
        if experts:
            pairs = [pair() for _ in range(M)]
            self.experts_lora_A = nn.ParameterList([a for a, _ in pairs])
            self.experts_lora_B = nn.ParameterList([pairs[0][1]])
            self.lora_expert_score_weight = nn.Parameter(torch.zeros(M), requires_grad=False)
        else:
            self.lora_A, self.lora_B = pair()

    def forward(self, x, scaling):
        if hasattr(self, "lora_A"):
            a, b = self.lora_A.double(), self.lora_B.double()
        else:
            a = sum(a.double() for a in self.experts_lora_A) / M
            b = self.experts_lora_B[0].double()
        after_a = (x @ a.t()).t().unsqueeze(0)
        return F.conv1d(after_a, b.unsqueeze(-1), groups=2)[0].t() * scaling


def nested(path, module):
    for part in reversed(path.split(".")):
        outer = nn.Module()
        outer.add_module(part, module)
        module = outer
    return module


def state(modules):
    return {k: v for path, m in modules.items() for k, v in nested(path, m).state_dict().items()}


torch.manual_seed(11)
gelu_tanh = lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
x = (torch.randn(3, C)).double().float().double()
values = {"x": x.tolist()}

def save(name, modules, extra, wrap, outputs):
    tensors = {**state(modules), **extra}
    torch.save({"model_state_dict": tensors} if wrap else tensors, f"{name}.bin")
    values[name] = {path: f.tolist() for path, f in outputs.items()}

encoder = lambda layer: f"roberta.encoder.layer.{layer}.output.ExpertSoup"
decoder = lambda layer: f"transformer.h.{layer}"
for name, tuned, up in (("nlu", False, 1), ("nlu_tuned", True, M)):
    soups = {encoder(i): ExpertSoup(F.gelu, tuned, up) for i in range(LAYERS)}
    head = {f"classifier.{m}.{p}": torch.randn(*s) for m, n in (("dense", C), ("out_proj", 3)) for p, s in (("weight", (n, C)), ("bias", (n,)))}
    # A file of the whole model: what is of the base is of no use here.
    base = {"roberta.encoder.layer.0.output.dense.bias": torch.zeros(C)}
    save(name, soups, {**head, **base}, False, {p: s(x) for p, s in soups.items()})
soups = {f"{decoder(i)}.mlp.ExpertSoup": ExpertSoup(gelu_tanh, False, 1) for i in range(LAYERS)}
save("nlg_adapter", soups, {f"{decoder(0)}.attn.bias": torch.ones(1, 1, 2, 2)}, True, {p: s(x) for p, s in soups.items()})
attns = {f"{decoder(i)}.attn.c_attn": CAttn(True) for i in range(LAYERS)}
save("nlg_lora", attns, {}, True, {p: a(x, 6 / R) for p, a in attns.items()})
attns = {f"{decoder(i)}.attn.c_attn": CAttn(False) for i in range(LAYERS)}
save("loralib", attns, {}, True, {p: a(x, 6 / R) for p, a in attns.items()})
json.dump(values, open("values.json", "w"), indent=0)
