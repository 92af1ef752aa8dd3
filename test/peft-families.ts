// Tiny models of every family, for the tests of methods.
import {
  crossEntropy,
  type DrawSource,
  embedding,
  type Parameter,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import {
  BertForSequenceClassification,
  type CausalLM,
  causalPositions,
  type EncoderInput,
  Gpt2LMHeadModel,
  LlamaForCausalLM,
  parseBertConfig,
  parseGpt2Config,
  parseLlamaConfig,
  parseRobertaConfig,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
  robertaPositions,
} from "../src/models/index.ts";
import { initBertWeights, type Module } from "../src/nn/index.ts";
import type { Adaptable } from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();

export interface TestModel {
  readonly model: Module & Adaptable;
  /** What trains beside the adaptation. */
  readonly head: readonly Parameter[];
  /** Logits of the same input every time, its rows repeated for each pass. */
  forward(options?: {
    readonly passes?: number;
    readonly draw?: DrawSource;
    readonly length?: number;
  }): Tensor;
  loss(logits: Tensor): Tensor;
}

export interface ModelFamily {
  readonly name: string;
  /** Whether it is another one with a different head. */
  readonly isVariant?: boolean;
  /** A model with the same weights every time, frozen but for its head. */
  build(options?: { readonly dropout?: number }): TestModel;
}

const ROWS = 3;
export const LONGEST = 7;
/** Positions beyond the longest text, which virtual tokens may take. */
const SPARE = 3;

export function tinyConfig(dropout = 0): ReturnType<typeof parseRobertaConfig> {
  return parseRobertaConfig({
    model_type: "roberta",
    vocab_size: 17,
    hidden_size: 10,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    intermediate_size: 13,
    max_position_embeddings: LONGEST + 2,
    hidden_dropout_prob: dropout,
    attention_probs_dropout_prob: dropout,
    num_labels: 3,
  });
}

/** ROWS sequences of `length` tokens; all but the first end in padding. */
export function tinyInput(length = LONGEST, passes = 1): EncoderInput {
  const config = tinyConfig();
  const ids = new Int32Array(ROWS * length);
  for (let row = 0; row < ROWS; row++) {
    for (let t = 0; t < length; t++)
      ids[row * length + t] = t < length - row ? 2 + ((5 * row + 3 * t) % 15) : config.pad_token_id;
  }
  const repeated = (values: Int32Array): Tensor => {
    const all = new Int32Array(values.length * passes);
    for (let i = 0; i < passes; i++) all.set(values, i * values.length);
    return tensor(gpu, all, [ROWS * passes, length]);
  };
  return {
    inputIds: repeated(ids),
    positionIds: repeated(robertaPositions(ids, length, config)),
    attentionMask: repeated(ids.map((id) => (id === config.pad_token_id ? 0 : 1))),
    poolingWeights: null,
  };
}

const robertaConfig = (dropout: number): ReturnType<typeof parseRobertaConfig> => ({
  ...tinyConfig(dropout),
  max_position_embeddings: LONGEST + 2 + SPARE,
});

const bertConfig = (dropout: number): ReturnType<typeof parseBertConfig> =>
  parseBertConfig({
    ...tinyConfig(dropout),
    model_type: "bert",
    max_position_embeddings: LONGEST + SPARE,
    type_vocab_size: 2,
  });

/** The same sequences for BERT; from the fourth token on they are a second text. */
function bertInput(length = LONGEST, passes = 1): EncoderInput {
  const input = tinyInput(length, passes);
  const shape = input.inputIds.shape;
  const place = (f: (t: number) => number): Tensor =>
    tensor(
      gpu,
      Int32Array.from({ length: input.inputIds.size }, (_, i) => f(i % length)),
      shape,
    );
  return { ...input, positionIds: place((t) => t), tokenTypeIds: place((t) => (t < 3 ? 0 : 1)) };
}

export const tinyLabels = (): Tensor => tensor(gpu, Int32Array.of(2, 0, 1));

function prepared(model: Module, head: Module): readonly Parameter[] {
  initBertWeights(model, Stream.seed(11), 0.3);
  model.setRequiresGrad(false);
  return head.setRequiresGrad(true).parameters();
}

/** A causal model, all of it frozen, that predicts the token after the last of each text. */
function causal(model: CausalLM): TestModel {
  for (const [name, parameter] of model.namedParameters()) {
    const mean = /(ln_\w+|norm|layernorm)\.weight$/.test(name) ? 1 : 0;
    parameter.write(Stream.seed(11).fold(name).normal(parameter.size, mean, 0.3));
  }
  model.setRequiresGrad(false);
  return {
    model,
    head: [],
    forward: ({ passes = 1, draw, length = LONGEST } = {}) =>
      tidy(() => {
        const { inputIds, attentionMask } = tinyInput(length, passes);
        const mask = textLengths(length).flatMap((n) => Array.from({ length }, (_, t) => (t < n ? 1 : 0)));
        const positions = causalPositions(mask, length, LONGEST);
        const all = Array.from({ length: passes }, () => [...positions]).flat();
        const positionIds = tensor(gpu, Int32Array.from(all), inputIds.shape);
        const hidden = model.hidden({ inputIds, positionIds, attentionMask }, { draw });
        const lasts = Array.from({ length: ROWS * passes }, (_, row) => {
          return row * length + (textLengths(length)[row % ROWS] as number) - 1;
        });
        const rows = tensor(gpu, Int32Array.from(lasts));
        return model.logits(embedding(hidden.reshape(-1, hidden.shape[2] as number), rows));
      }),
    loss: (logits) => tidy(() => crossEntropy(logits, tinyLabels())),
  };
}

const textLengths = (length: number): number[] => Array.from({ length: ROWS }, (_, row) => length - row);

const GPT2 = {
  model_type: "gpt2",
  vocab_size: 17,
  n_embd: 8,
  n_layer: 2,
  n_head: 2,
  n_inner: 13,
  n_positions: LONGEST + SPARE,
};
/** Two heads of queries share one of keys and values. */
const LLAMA = {
  model_type: "llama",
  vocab_size: 17,
  hidden_size: 8,
  intermediate_size: 13,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: LONGEST + SPARE,
  rms_norm_eps: 1e-5,
  attention_bias: true,
  tie_word_embeddings: true,
};

export const modelFamilies: readonly ModelFamily[] = [
  {
    name: "RoBERTa classification",
    build({ dropout = 0 } = {}) {
      const model = new RobertaForSequenceClassification(gpu, robertaConfig(dropout));
      return {
        model,
        head: prepared(model, model.classifier),
        forward: ({ passes, draw, length } = {}) =>
          tidy(() => model.forward(tinyInput(length, passes), { draw })),
        loss: (logits) => tidy(() => crossEntropy(logits, tinyLabels())),
      };
    },
  },
  {
    name: "BERT classification",
    build({ dropout = 0 } = {}) {
      const model = new BertForSequenceClassification(gpu, bertConfig(dropout));
      return {
        model,
        head: prepared(model, model.classifier),
        forward: ({ passes, draw, length } = {}) =>
          tidy(() => model.forward(bertInput(length, passes), { draw })),
        loss: (logits) => tidy(() => crossEntropy(logits, tinyLabels())),
      };
    },
  },
  {
    name: "RoBERTa masked language model",
    isVariant: true,
    build({ dropout = 0 } = {}) {
      const model = new RobertaForMaskedLM(gpu, robertaConfig(dropout));
      const positions = (): Tensor => tensor(gpu, Int32Array.of(1, LONGEST + 2, 2 * LONGEST));
      return {
        model,
        head: prepared(model, model.lm_head),
        forward: ({ passes = 1, draw, length } = {}) =>
          tidy(() => model.forward(tinyInput(length, passes), { draw }, passes === 1 ? positions() : null)),
        loss: (logits) => tidy(() => crossEntropy(logits, tinyLabels())),
      };
    },
  },
  {
    name: "GPT-2",
    build: ({ dropout = 0 } = {}) =>
      causal(
        new Gpt2LMHeadModel(
          gpu,
          parseGpt2Config({ ...GPT2, embd_pdrop: dropout, resid_pdrop: dropout, attn_pdrop: dropout }),
        ),
      ),
  },
  {
    name: "Llama",
    build: ({ dropout = 0 } = {}) =>
      causal(new LlamaForCausalLM(gpu, parseLlamaConfig({ ...LLAMA, attention_dropout: dropout }))),
  },
];

/** A model of the family of this name. */
export function familyOf(name: string): TestModel {
  const found = modelFamilies.find((family) => family.name === name);
  if (!found) throw new Error(`no family ${name}`);
  return found.build();
}
