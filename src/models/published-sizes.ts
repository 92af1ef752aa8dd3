import { FormatError } from "../io/index.ts";

const BERT = { model_type: "bert", vocab_size: 30_522, max_position_embeddings: 512, type_vocab_size: 2 };
const ROBERTA = {
  model_type: "roberta",
  vocab_size: 50_265,
  max_position_embeddings: 514,
  type_vocab_size: 1,
};
const GPT2 = { model_type: "gpt2", vocab_size: 50_257, n_positions: 1024 };

const encoderBase = {
  num_hidden_layers: 12,
  hidden_size: 768,
  num_attention_heads: 12,
  intermediate_size: 3072,
};
const encoderLarge = {
  num_hidden_layers: 24,
  hidden_size: 1024,
  num_attention_heads: 16,
  intermediate_size: 4096,
};

/** As much of the config.json of published models as their sizes need, by the names that they have on the hub. */
export const PUBLISHED_SIZES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "bert-base-uncased": { ...BERT, ...encoderBase },
  "bert-large-uncased": { ...BERT, ...encoderLarge },
  "roberta-base": { ...ROBERTA, ...encoderBase },
  "roberta-large": { ...ROBERTA, ...encoderLarge },
  gpt2: { ...GPT2, n_layer: 12, n_embd: 768, n_head: 12 },
  "gpt2-medium": { ...GPT2, n_layer: 24, n_embd: 1024, n_head: 16 },
  "gpt2-large": { ...GPT2, n_layer: 36, n_embd: 1280, n_head: 20 },
  "gpt2-xl": { ...GPT2, n_layer: 48, n_embd: 1600, n_head: 25 },
};

/** The config of a published model by its name, with or without its owner's. */
export function publishedSize(name: string): Readonly<Record<string, unknown>> {
  const found = PUBLISHED_SIZES[name] ?? PUBLISHED_SIZES[name.split("/").at(-1) ?? ""];
  if (found) return found;
  throw new FormatError(
    `sizes: "${name}" is not one of ${Object.keys(PUBLISHED_SIZES).join(", ")} (give the folder of a model, or its config.json)`,
  );
}
