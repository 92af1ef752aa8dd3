// Methods and models that test/peft.test.ts crosses: a method is one row here, a model family another.
import {
  crossEntropy,
  type DrawSource,
  type Parameter,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import {
  BertForSequenceClassification,
  type EncoderInput,
  parseBertConfig,
  parseRobertaConfig,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
  robertaPositions,
} from "../src/models/index.ts";
import { initBertWeights, type Module } from "../src/nn/index.ts";
import {
  type Adaptable,
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  adapter,
  lora,
  type PeftMethod,
  type Share,
} from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();

export interface PeftRow {
  readonly name: string;
  /** The method, with its own number of experts or another one. */
  make(options?: { readonly experts?: number }): PeftMethod;
  /** The same method without experts. */
  plain(): PeftMethod;
  /** Whether a fresh set leaves the model's output as it is. */
  readonly isIdentity: boolean;
}

const ADAPTER = { bottleneck: 3 };
const LORA = { rank: 2, alpha: 3 };
const EXPERTS = 3;

function mixture(kind: "adapter" | "lora", share: Share): PeftRow {
  const isAdapter = kind === "adapter";
  return {
    name: `adamix ${kind}, share ${share}`,
    make: ({ experts = EXPERTS } = {}) =>
      isAdapter ? adamixAdapter({ ...ADAPTER, experts, share }) : adamixLora({ ...LORA, experts, share }),
    plain: () => (isAdapter ? adapter(ADAPTER) : lora(LORA)),
    isIdentity: !isAdapter,
  };
}

export const peftTable: readonly PeftRow[] = [
  // N(0, 0.02) in the up-projection too: no identity.
  { name: "adapter", make: () => adapter(ADAPTER), plain: () => adapter(ADAPTER), isIdentity: false },
  { name: "lora", make: () => lora(LORA), plain: () => lora(LORA), isIdentity: true },
  ...(["up", "down", "none"] as const).flatMap((share) => [
    mixture("adapter", share),
    mixture("lora", share),
  ]),
];

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
  /** A model with the same weights every time, frozen but for its head. */
  build(options?: { readonly dropout?: number }): TestModel;
}

const ROWS = 3;
export const LONGEST = 7;

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

const bertConfig = (dropout: number): ReturnType<typeof parseBertConfig> =>
  parseBertConfig({
    ...tinyConfig(dropout),
    model_type: "bert",
    max_position_embeddings: LONGEST,
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

export const modelFamilies: readonly ModelFamily[] = [
  {
    name: "RoBERTa classification",
    build({ dropout = 0 } = {}) {
      const model = new RobertaForSequenceClassification(gpu, tinyConfig(dropout));
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
    build({ dropout = 0 } = {}) {
      const model = new RobertaForMaskedLM(gpu, tinyConfig(dropout));
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
];

/** Fills a set with numbers that are far from any initialisation, the same for the same stream. */
export function scramble(set: AdaptationSet, seed = 5): AdaptationSet {
  const stream = Stream.seed(seed);
  for (const [name, parameter] of set.namedParameters())
    parameter.write(stream.fold(name).normal(parameter.size, 0, 0.4));
  return set;
}

/** A set on a model, with the initialisation of seed 1. */
export function attachTo({ model }: TestModel, method: PeftMethod, name = "default"): AdaptationSet {
  return new AdaptationSet(gpu, model, method, { name, stream: Stream.seed(1) });
}

/** The bytes of some parameters, by name. */
export async function bytesOf(
  parameters: Iterable<readonly [string, Parameter]>,
): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const bytes = new Map<string, Float32Array<ArrayBuffer>>();
  for (const [name, parameter] of parameters)
    bytes.set(name, (await parameter.data()) as Float32Array<ArrayBuffer>);
  return bytes;
}
