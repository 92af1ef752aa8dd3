// Folders of tiny models, and ways to spoil them.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Stream } from "../src/autograd/index.ts";
import { mergesTxt, trainBpe, vocabJson } from "../src/data/index.ts";
import { decodeSafetensors, encodeSafetensors, type TensorToWrite } from "../src/io/index.ts";
import { Gpt2LMHeadModel, LlamaForCausalLM, parseGpt2Config, parseLlamaConfig } from "../src/models/index.ts";
import { packageRoot } from "../src/platform/index.ts";
import { initCausalWeights, saveModel } from "../src/train/index.ts";
import { scratchFolder } from "./cli-process.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
export const folder = scratchFolder();

const bpe = trainBpe(["one two three two one"], { vocabSize: 262, specials: ["<|endoftext|>"] });
const TOKENIZER = { "vocab.json": vocabJson(bpe), "merges.txt": mergesTxt(bpe) };
export const TOKENS = Object.keys(bpe.vocab).length;

export const GOLDEN = join(packageRoot(), "test", "golden", "pytorch");
export const ENCODER = join(packageRoot(), "assets", "encoder");
export const GPT2 = join(folder, "gpt2");
export const LLAMA = join(folder, "llama");

for (const [path, model] of [
  [
    GPT2,
    new Gpt2LMHeadModel(
      gpu,
      parseGpt2Config({
        model_type: "gpt2",
        vocab_size: TOKENS,
        n_positions: 8,
        n_embd: 8,
        n_layer: 1,
        n_head: 2,
        eos_token_id: 0,
      }),
    ),
  ],
  [
    LLAMA,
    new LlamaForCausalLM(
      gpu,
      parseLlamaConfig({
        model_type: "llama",
        vocab_size: TOKENS,
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        max_position_embeddings: 8,
        tie_word_embeddings: true,
      }),
    ),
  ],
] as const) {
  initCausalWeights(model, Stream.seed(1));
  await saveModel(path, model);
  model.dispose();
  for (const [name, text] of Object.entries(TOKENIZER)) writeFileSync(join(path, name), text);
}

export type Spoil = (path: string) => void;

/** Changes of config.json; undefined takes a key away. */
export const config =
  (changes: Readonly<Record<string, unknown>>): Spoil =>
  (path) => {
    const file = join(path, "config.json");
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...changes }));
  };

/** Other tensors in model.safetensors. */
export const tensors =
  (change: (all: Map<string, TensorToWrite>) => void): Spoil =>
  (path) => {
    const file = join(path, "model.safetensors");
    const all = new Map<string, TensorToWrite>();
    for (const [name, { dtype, shape, bytes }] of decodeSafetensors(readFileSync(file)).tensors)
      all.set(name, { dtype, shape, data: Uint8Array.from(bytes) });
    change(all);
    writeFileSync(file, encodeSafetensors(all));
  };

/** Other bytes of a file; null: the file is gone. */
export const bytes =
  (name: string, change: (old: Buffer<ArrayBuffer>) => Uint8Array | string | null): Spoil =>
  (path) => {
    const file = join(path, name);
    const made = change(readFileSync(file) as Buffer<ArrayBuffer>);
    if (made === null) rmSync(file);
    else writeFileSync(file, made);
  };

export const header = (entries: object): Uint8Array => {
  const text = new TextEncoder().encode(JSON.stringify(entries));
  const all = new Uint8Array(8 + text.length + 16);
  new DataView(all.buffer).setUint32(0, text.length, true);
  all.set(text, 8);
  return all;
};

export const index =
  (map: Readonly<Record<string, string>>): Spoil =>
  (path) => {
    rmSync(join(path, "model.safetensors"));
    writeFileSync(join(path, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }));
  };

export const weight = (...shape: number[]): TensorToWrite => ({
  dtype: "F32",
  shape,
  data: new Float32Array(shape.reduce((n, x) => n * x, 1)),
});
