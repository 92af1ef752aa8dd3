"""Loads exported adapters with peft, adapters and transformers and compares logits.

    python3 check_exports.py FOLDER     the folder that make-cases.ts has written

Needs torch, transformers, peft; adapters for the cases of that format (left out, and said so, where it is missing).
Exit code 1 where a case differs.
"""
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

TOLERANCE = 1e-4


def base_model(case, folder):
    is_encoder = case["family"] in ("bert", "roberta")
    kind = AutoModelForSequenceClassification if is_encoder else AutoModelForCausalLM
    return kind.from_pretrained(folder / "base")


def logits_of(model, case):
    ids = torch.tensor(case["input_ids"])
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.flatten()


def with_peft(case, folder):
    from peft import PeftModel

    model = PeftModel.from_pretrained(base_model(case, folder), folder / "adapter")
    yield "attached", logits_of(model, case)
    yield "merged into the base", logits_of(model.merge_and_unload(), case)


def with_adapters(case, folder):
    import adapters

    if case["family"] in ("bert", "roberta"):
        model = adapters.AutoAdapterModel.from_pretrained(folder / "base")
    else:
        model = base_model(case, folder)
        adapters.init(model)
    for safe in (False, True):
        name = f"tiny_{'safetensors' if safe else 'bin'}"
        model.load_adapter(str(folder / "adapter"), load_as=name, set_active=True, use_safetensors=safe)
        yield name, logits_of(model, case)


def main(cases):
    failed = 0
    for path in sorted(pathlib.Path(cases).glob("*/case.json")):
        case, folder = json.loads(path.read_text()), path.parent
        try:
            results = list({"peft": with_peft, "adapters": with_adapters}[case["format"]](case, folder))
        except ImportError as error:
            print(f"left out: {folder.name} ({error})")
            continue
        expected = torch.tensor(case["logits"])
        for how, logits in results:
            error = (logits - expected).abs().max().item()
            failed += error > TOLERANCE
            print(f"{'ok' if error <= TOLERANCE else 'DIFFERS'}: {folder.name}, {how}: max error {error:.2e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
