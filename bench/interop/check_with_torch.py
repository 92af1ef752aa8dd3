"""Computes with exported adapters in PyTorch alone, from the files and from what their formats mean.

    python3 check_with_torch.py FOLDER     the folder that make-cases.ts has written

A second opinion where transformers, peft and adapters cannot be installed: the models are written out below, in float64.
Prints one JSON object: the largest error of each case. Cases of families that are not written out are left out.
"""
import json
import math
import pathlib
import struct
import sys

import torch
from torch.nn import functional as F


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", name
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float32) if end > start else torch.zeros(0)
        tensors[name] = values.reshape(entry["shape"]).double()
    return tensors


class Adapted:
    """Weights of a base model, and what an adapter's files put around its modules."""

    def __init__(self, folder, format):
        self.w = read_safetensors(folder / "base" / "model.safetensors")
        self.lora, self.bottlenecks, self.head = {}, {}, {}
        (self.read_peft if format == "peft" else self.read_adapters)(folder / "adapter")

    def read_peft(self, folder):
        config = json.loads((folder / "adapter_config.json").read_text())
        scale = config["lora_alpha"] / config["r"]
        prefix = "base_model.model."
        tensors = {k[len(prefix) :]: v for k, v in read_safetensors(folder / "adapter_model.safetensors").items()}
        for name, a in tensors.items():
            if name.endswith(".lora_A.weight"):
                module = name[: -len(".lora_A.weight")]
                self.lora[module] = (a, tensors[module + ".lora_B.weight"], scale)
                target = module.split(".")[-1]
                assert target in config["target_modules"] or module in config["target_modules"], module
            elif ".lora_" not in name:
                self.head[name] = a

    def read_adapters(self, folder):
        file = json.loads((folder / "adapter_config.json").read_text())
        config, name = file["config"], file["name"]
        tensors = torch.load(folder / "pytorch_adapter.bin", weights_only=True)
        tensors = {k: v.double() for k, v in tensors.items()}
        if config.get("architecture") == "lora":
            for key, a in tensors.items():
                if key.endswith(f".loras.{name}.lora_A"):
                    module = key[: -len(f".loras.{name}.lora_A")]
                    b = tensors[key[:-1] + "B"]
                    self.lora[module] = (a, b, config["alpha"] / config["r"])
        else:
            self.config = config
            assert isinstance(config["scaling"], float)
            for key in tensors:
                if key.endswith(".adapter_up.weight"):
                    module = key[: -len(f".adapters.{name}.adapter_up.weight")]
                    part = lambda p: tensors[f"{module}.adapters.{name}.{p}"]
                    down = (part("adapter_down.0.weight"), part("adapter_down.0.bias"))
                    assert down[0].shape[0] == int(file["hidden_size"] // config["reduction_factor"])
                    self.bottlenecks[module] = down + (part("adapter_up.weight"), part("adapter_up.bias"))
        if (folder / "pytorch_model_head.bin").exists():
            head = torch.load(folder / "pytorch_model_head.bin", weights_only=True)
            self.head = {k.split(".", 2)[2]: v.double() for k, v in head.items()}
            self.flex = json.loads((folder / "head_config.json").read_text())["config"]

    def linear(self, x, name, conv=False):
        weight = self.w[name + ".weight"]
        y = x @ (weight if conv else weight.t()) + self.w[name + ".bias"]
        if name not in self.lora:
            return y
        a, b, scale = self.lora[name]
        if b.shape[0] == y.shape[-1]:
            return y + scale * (x @ a.t()) @ b.t()
        # The merged shapes of a fused layer: two groups, queries and values.
        q, v = ((x @ part_a.t()) @ part_b.t() for part_a, part_b in zip(a.chunk(2), b.chunk(2)))
        return y + scale * torch.cat([q, torch.zeros_like(q), v], dim=-1)

    def norm(self, x, name, eps):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], eps)

    def after(self, h, module):
        """A sequential bottleneck adapter with original_ln_before false: h + up(act(down(h)))."""
        if module not in self.bottlenecks:
            return h
        assert not self.config["original_ln_before"] and self.config["original_ln_after"]
        down, down_bias, up, up_bias = self.bottlenecks[module]
        return h + ACTS[self.config["non_linearity"]](h @ down.t() + down_bias) @ up.t() + up_bias


def gelu_new(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTS = {"gelu": F.gelu, "gelu_new": gelu_new, "relu": F.relu, "swish": F.silu, "silu": F.silu}


def attention(q, k, v, heads, causal):
    split = lambda x: x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)
    q, k, v = split(q), split(k), split(v)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        n = scores.shape[-1]
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def encoder(m, c, family, ids):
    e, eps = f"{family}.embeddings.", c["layer_norm_eps"]
    first = c["pad_token_id"] + 1 if family == "roberta" else 0
    x = m.w[e + "word_embeddings.weight"][ids] + m.w[e + "token_type_embeddings.weight"][0]
    x = x + m.w[e + "position_embeddings.weight"][first : first + ids.shape[1]]
    x = m.norm(x, e + "LayerNorm", eps)
    for i in range(c["num_hidden_layers"]):
        p = f"{family}.encoder.layer.{i}"
        q, k, v = (m.linear(x, f"{p}.attention.self.{part}") for part in ("query", "key", "value"))
        h = m.linear(attention(q, k, v, c["num_attention_heads"], False), f"{p}.attention.output.dense")
        x = m.norm(m.after(h, f"{p}.attention.output") + x, f"{p}.attention.output.LayerNorm", eps)
        h = m.linear(F.gelu(m.linear(x, f"{p}.intermediate.dense")), f"{p}.output.dense")
        x = m.norm(m.after(h, f"{p}.output") + x, f"{p}.output.LayerNorm", eps)
    return x


def classify(m, family, x):
    """By the head in the adapter's files: of transformers' class, or a flexible one."""
    dense = lambda x, name: x @ m.head[name + ".weight"].t() + m.head[name + ".bias"]
    first = x[:, 0]
    pooled = torch.tanh(m.linear(first, "bert.pooler.dense")) if family == "bert" else first
    if hasattr(m, "flex"):
        x = pooled if m.flex["use_pooler"] else first
        return dense(torch.tanh(dense(x, "1")), "4") if m.flex["layers"] == 2 else dense(x, "1")
    if family == "bert":
        return dense(pooled, "classifier")
    return dense(torch.tanh(dense(first, "classifier.dense")), "classifier.out_proj")


def gpt2(m, c, ids):
    eps = c["layer_norm_epsilon"]
    x = m.w["transformer.wte.weight"][ids] + m.w["transformer.wpe.weight"][: ids.shape[1]]
    for i in range(c["n_layer"]):
        p = f"transformer.h.{i}"
        q, k, v = m.linear(m.norm(x, f"{p}.ln_1", eps), f"{p}.attn.c_attn", conv=True).chunk(3, dim=-1)
        h = m.linear(attention(q, k, v, c["n_head"], True), f"{p}.attn.c_proj", conv=True)
        x = x + m.after(h, f"{p}.attention_adapters")
        inner = gelu_new(m.linear(m.norm(x, f"{p}.ln_2", eps), f"{p}.mlp.c_fc", conv=True))
        x = x + m.after(m.linear(inner, f"{p}.mlp.c_proj", conv=True), f"{p}.output_adapters")
    return m.norm(x, "transformer.ln_f", eps) @ m.w["transformer.wte.weight"].t()


def main(cases):
    errors = {}
    for path in sorted(pathlib.Path(cases).glob("*/case.json")):
        case, folder = json.loads(path.read_text()), path.parent
        family = case["family"]
        if family not in ("bert", "roberta", "gpt2"):
            continue
        config = json.loads((folder / "base" / "config.json").read_text())
        m, ids = Adapted(folder, case["format"]), torch.tensor(case["input_ids"])
        logits = gpt2(m, config, ids) if family == "gpt2" else classify(m, family, encoder(m, config, family, ids))
        errors[folder.name] = (logits.flatten() - torch.tensor(case["logits"])).abs().max().item()
    print(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1])
