// A tiny model of each family with weights far from zero, the same every time, and its logits of one batch.
import { type Parameter, Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import {
  BertForSequenceClassification,
  bertPositions,
  causalPositions,
  type EncoderInput,
  Gpt2LMHeadModel,
  LlamaForCausalLM,
  parseBertConfig,
  parseGpt2Config,
  parseLlamaConfig,
  parseRobertaConfig,
  RobertaForSequenceClassification,
  robertaPositions,
  type SequenceClassifier,
} from "../src/models/index.ts";
import { AdaptationSet, type PeftMethod } from "../src/peft/index.ts";
import type { AdaptedModel } from "../src/train/index.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();

export interface FormatModel {
  readonly model: AdaptedModel;
  /** Logits of the same three texts every time. */
  logits(): Promise<Float32Array<ArrayBuffer>>;
}

export type FamilyName = "bert" | "roberta" | "gpt2" | "llama";

export const CHANNELS = 12;
export const LAYERS = 2;
const VOCABULARY = 19;
const ROWS = 3;
const LENGTH = 5;

const ENCODER = {
  vocab_size: VOCABULARY,
  hidden_size: CHANNELS,
  num_hidden_layers: LAYERS,
  num_attention_heads: 2,
  intermediate_size: 14,
  max_position_embeddings: LENGTH + 2,
  hidden_dropout_prob: 0,
  attention_probs_dropout_prob: 0,
};
export const CONFIGS: Readonly<Record<FamilyName, Readonly<Record<string, unknown>>>> = {
  bert: { ...ENCODER, model_type: "bert", type_vocab_size: 2 },
  roberta: { ...ENCODER, model_type: "roberta" },
  gpt2: {
    model_type: "gpt2",
    vocab_size: VOCABULARY,
    n_positions: LENGTH,
    n_embd: CHANNELS,
    n_layer: LAYERS,
    n_head: 2,
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
  },
  llama: {
    model_type: "llama",
    vocab_size: VOCABULARY,
    hidden_size: CHANNELS,
    intermediate_size: 14,
    num_hidden_layers: LAYERS,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: LENGTH,
  },
};

export interface BuildOptions {
  /** Classes of an encoder's head. */
  readonly labels?: number;
  readonly overrides?: Readonly<Record<string, unknown>>;
  /** Draws another model. */
  readonly seed?: number;
}

/** A model whose base is frozen, so that only a head trains. */
export function buildModel(family: FamilyName, options: BuildOptions = {}): FormatModel {
  const { labels = 3, overrides = {}, seed = 3 } = options;
  const json = { ...CONFIGS[family], num_labels: labels, ...overrides };
  const made = makers[family](json);
  for (const [name, parameter] of made.model.namedParameters()) write(name, parameter, seed);
  made.model.setRequiresGrad(false);
  made.head?.setRequiresGrad(true);
  return made;
}

function write(name: string, parameter: Parameter, seed: number): void {
  const isNorm = /norm|ln_/i.test(name) && name.endsWith("weight");
  parameter.write(
    Stream.seed(seed)
      .fold(name)
      .normal(parameter.size, isNorm ? 1 : 0, 0.3),
  );
}

const ids = Int32Array.from({ length: ROWS * LENGTH }, (_, i) => 3 + ((7 * i) % (VOCABULARY - 3)));
const ones = new Int32Array(ids.length).fill(1);
const rows = (values: Int32Array): Tensor => tensor(gpu, values as Int32Array<ArrayBuffer>, [ROWS, LENGTH]);

/** The three texts as an encoder takes them. */
export function encoderInput(positions: Int32Array): EncoderInput {
  return {
    inputIds: rows(ids),
    positionIds: rows(positions),
    attentionMask: rows(ones),
    poolingWeights: tensor(gpu, new Float32Array(ROWS * LENGTH).fill(1 / LENGTH), [ROWS, 1, LENGTH]),
  };
}

/** A classifier and its input. */
export function buildClassifier(
  family: "bert" | "roberta",
  options: BuildOptions = {},
): { readonly model: SequenceClassifier; readonly input: EncoderInput } {
  const model = buildModel(family, options).model as unknown as SequenceClassifier; // what both makers give
  return { model, input: encoderInput(model.positionsOf(ids, LENGTH)) };
}

type Made = FormatModel & { readonly head?: { setRequiresGrad(value: boolean): unknown } };

const makers: Readonly<Record<FamilyName, (json: unknown) => Made>> = {
  bert(json) {
    const config = parseBertConfig(json);
    return encoder(new BertForSequenceClassification(gpu, config), bertPositions(ids, LENGTH, config));
  },
  roberta(json) {
    const config = parseRobertaConfig(json);
    return encoder(new RobertaForSequenceClassification(gpu, config), robertaPositions(ids, LENGTH, config));
  },
  gpt2: (json) => decoder(new Gpt2LMHeadModel(gpu, parseGpt2Config(json))),
  llama: (json) => decoder(new LlamaForCausalLM(gpu, parseLlamaConfig(json))),
};

function encoder(
  model: BertForSequenceClassification | RobertaForSequenceClassification,
  positions: Int32Array,
): Made {
  return {
    model,
    head: model.head,
    logits: () => read(model.forward(encoderInput(positions))),
  };
}

function decoder(model: Gpt2LMHeadModel | LlamaForCausalLM): Made {
  const positionIds = causalPositions(ones, LENGTH, LENGTH);
  return {
    model,
    logits: () =>
      read(model.forward({ inputIds: rows(ids), positionIds: rows(positionIds), attentionMask: null })),
  };
}

async function read(x: Tensor): Promise<Float32Array<ArrayBuffer>> {
  const values = (await x.data()) as Float32Array<ArrayBuffer>; // logits are f32
  x.dispose();
  return values;
}

/** A set with numbers that are far from any initialisation, biases too. */
export function attached({ model }: FormatModel, method: PeftMethod, seed = 5): AdaptationSet {
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters())
    parameter.write(Stream.seed(seed).fold(name).normal(parameter.size, 0, 0.4));
  return set;
}
