// Writes tiny models, adapters on them in the layouts of other tools, and the logits they give here, for the two Python
// programs beside this file to compare with.
//
//     node --import tsx bench/interop/make-cases.ts /tmp/cases
//     python3 bench/interop/check_exports.py /tmp/cases        (needs transformers, peft, adapters)
//     python3 bench/interop/check_with_torch.py /tmp/cases     (needs torch alone)
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Gpu, openGpu } from "../../src/array/index.ts";
import { Stream, tensor } from "../../src/autograd/index.ts";
import { causalPositions, modelFamily, modelHead } from "../../src/models/index.ts";
import { AdaptationSet, adapter, lora, type PeftMethod } from "../../src/peft/index.ts";
import { exportAdapter, saveAdapter, saveModel } from "../../src/train/index.ts";

interface Case {
  readonly family: "bert" | "roberta" | "gpt2" | "llama";
  readonly format: "peft" | "adapters";
  readonly method: PeftMethod;
}

const ENCODER = {
  vocab_size: 29,
  hidden_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 20,
  max_position_embeddings: 12,
  hidden_dropout_prob: 0,
  attention_probs_dropout_prob: 0,
  num_labels: 3,
};
const CONFIGS = {
  bert: { ...ENCODER, model_type: "bert", type_vocab_size: 2 },
  roberta: { ...ENCODER, model_type: "roberta" },
  gpt2: { model_type: "gpt2", vocab_size: 29, n_positions: 12, n_embd: 16, n_layer: 2, n_head: 2 },
  llama: {
    model_type: "llama",
    vocab_size: 29,
    hidden_size: 16,
    intermediate_size: 20,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 12,
  },
} as const;

const BOTH = ["attention.output", "layer.*.output"];
const CASES: Readonly<Record<string, Case>> = {
  "roberta-lora": { family: "roberta", format: "peft", method: lora({ rank: 3, alpha: 5 }) },
  "bert-lora": {
    family: "bert",
    format: "peft",
    method: lora({ rank: 2, targets: ["query", "key", "value"] }),
  },
  "gpt2-lora": { family: "gpt2", format: "peft", method: lora({ rank: 3, alpha: 5 }) },
  "llama-lora": { family: "llama", format: "peft", method: lora({ rank: 2, targets: ["q_proj", "v_proj"] }) },
  "roberta-adamix": { family: "roberta", format: "adapters", method: adapter({ bottleneck: 5 }) },
  "bert-houlsby": {
    family: "bert",
    format: "adapters",
    method: adapter({ bottleneck: 4, activation: "silu", targets: BOTH }),
  },
  "roberta-lora-hub": { family: "roberta", format: "adapters", method: lora({ rank: 2, alpha: 3 }) },
  "gpt2-adapter": {
    family: "gpt2",
    format: "adapters",
    method: adapter({ bottleneck: 3, activation: "geluTanh", targets: ["mlp.output"] }),
  },
  "gpt2-lora-hub": { family: "gpt2", format: "adapters", method: lora({ rank: 2, alpha: 3 }) },
};

const ROWS = 2;
const LENGTH = 6;
const ids = Int32Array.from({ length: ROWS * LENGTH }, (_, i) => 3 + ((7 * i) % 25));

/** Writes all cases under a folder, each with base/, adapter/ and case.json. Returns their names. */
export async function makeCases(gpu: Gpu, out: string): Promise<string[]> {
  for (const [name, one] of Object.entries(CASES)) await makeCase(gpu, join(out, name), one);
  return Object.keys(CASES);
}

async function makeCase(gpu: Gpu, folder: string, { family, format, method }: Case): Promise<void> {
  const json = CONFIGS[family];
  const found = modelFamily(json);
  const isEncoder = family === "bert" || family === "roberta";
  const task = isEncoder ? "sequence-classification" : "causal-lm";
  const model = modelHead(found, task).make(gpu, found.parseConfig(json));
  for (const [key, parameter] of model.namedParameters()) {
    const isNorm = /norm|ln_/i.test(key) && key.endsWith("weight");
    parameter.write(
      Stream.seed(4)
        .fold(key)
        .normal(parameter.size, isNorm ? 1 : 0, 0.2),
    );
  }
  model.setRequiresGrad(false);
  mkdirSync(folder, { recursive: true });
  await saveModel(join(folder, "base"), model);
  if ("head" in model) {
    model.head.setRequiresGrad(true);
    for (const [key, parameter] of model.head.namedParameters())
      parameter.write(Stream.seed(6).fold(key).normal(parameter.size, 0, 0.3));
  }
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  for (const [key, parameter] of set.namedParameters())
    parameter.write(Stream.seed(5).fold(key).normal(parameter.size, 0, 0.3));
  const labels = isEncoder ? ["no", "maybe", "yes"] : [];
  await saveAdapter(join(folder, "own"), model, set, { base: join(folder, "base"), labels });
  exportAdapter(join(folder, "own"), join(folder, "adapter"), { format, name: "tiny" });
  const shape = [ROWS, LENGTH];
  const mask = new Int32Array(ids.length).fill(1);
  const inputIds = tensor(gpu, ids, shape);
  const logits =
    "head" in model
      ? model.forward({
          inputIds,
          positionIds: tensor(gpu, model.positionsOf(ids, LENGTH), shape),
          attentionMask: tensor(gpu, mask, shape),
          poolingWeights: null,
        })
      : model.forward({
          inputIds,
          positionIds: tensor(gpu, causalPositions(mask, LENGTH, LENGTH), shape),
          attentionMask: null,
        });
  const texts = Array.from({ length: ROWS }, (_, i) => [...ids.subarray(i * LENGTH, (i + 1) * LENGTH)]);
  const content = {
    family,
    format,
    input_ids: texts,
    shape: logits.shape,
    logits: [...(await logits.data())],
  };
  writeFileSync(join(folder, "case.json"), JSON.stringify(content));
  set.dispose();
  model.dispose();
}

if (process.argv[1]?.endsWith("make-cases.ts")) {
  const [, , out] = process.argv;
  if (out === undefined) throw new Error("make-cases: give the folder to write");
  const gpu = await openGpu();
  console.log(`${out}: ${(await makeCases(gpu, out)).join(", ")}`);
  await gpu.device.close();
}
