"""Makes the PyTorch files of this folder: python3 make.py (PyTorch 1.13). Their values are in values.json."""
import collections, json, os, pickle, zipfile
import torch

torch.manual_seed(7)
base = torch.randn(4, 6)
tensors = collections.OrderedDict()
tensors["f32"] = torch.randn(3, 5)
tensors["f16"] = torch.randn(7).half()
tensors["bf16"] = torch.randn(2, 3).bfloat16()
tensors["f64"] = torch.randn(3).double()
tensors["i64"] = torch.tensor([[1, -2], [3, 2**31 - 1]])
tensors["bool"] = torch.tensor([True, False, True])
tensors["scalar"] = torch.tensor(2.5)
tensors["empty"] = torch.zeros(0, 4)
tensors["transposed"] = base.t()
tensors["columns"] = base[1:, ::2]
tensors["rows"] = base[2:]
tensors["expanded"] = torch.randn(1, 3).expand(4, 3)
parameter = torch.nn.Parameter(torch.randn(2, 2))
torch.save(tensors, "tensors.bin")
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
torch.save({"model_state_dict": module.state_dict(), "step": 12, "rate": 0.5, "note": "é", "p": parameter}, "nested.pt")
torch.save(tensors, "legacy.bin", _use_new_zipfile_serialization=False)


class Wants:
    def __reduce__(self):
        return (os.system, ("echo this must not run > pwned.txt",))


with zipfile.ZipFile("malicious.bin", "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps({"weight": Wants()}, protocol=2))
    archive.writestr("archive/version", "3\n")

values = {n: {"shape": list(t.shape), "values": t.double().flatten().tolist()} for n, t in tensors.items()}
values.update({f"model_state_dict.{n}": {"shape": list(t.shape), "values": t.double().flatten().tolist()} for n, t in module.state_dict().items()})
values["p"] = {"shape": [2, 2], "values": parameter.detach().double().flatten().tolist()}
json.dump(values, open("values.json", "w"), indent=1)
