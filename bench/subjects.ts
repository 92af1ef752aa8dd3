// Models of given sizes with a batch of random tokens, as training steps and ratios are measured on.
import { collate } from "../src/data/index.ts";
import { crossEntropy, type Gpu, type Parameter, Stream, type Tensor, tensor, tidy } from "../src/index.ts";
import {
  Gpt2LMHeadModel,
  parseGpt2Config,
  parseRobertaConfig,
  RobertaForSequenceClassification,
} from "../src/models/index.ts";
import { initUniform, type Module, type Site } from "../src/nn/index.ts";
import { BatchSlots, type LoadedBatch } from "../src/train/index.ts";

export interface Sizes {
  readonly layers: number;
  readonly channels: number;
  readonly heads: number;
  readonly vocabulary: number;
  readonly batch: number;
  readonly tokens: number;
}

/** A model and its batch. */
export interface Subject {
  readonly model: Module & { sites(): Site[] };
  /** What trains beside an adaptation. */
  readonly head: readonly Parameter[];
  /** i32 [rows], of one pass. */
  readonly labels: Tensor;
  /** Writes the batch into its slots, its examples `passes` times behind one another, as a step of training does. */
  load(passes: number): void;
  /** Of what was loaded: [passes x rows, classes]. */
  logits(): Tensor;
  dispose(): void;
}

export type MakeSubject = (gpu: Gpu, sizes: Sizes) => Subject;

const stream = Stream.seed(1);

/** Weights that are no vectors from U(-0.03, 0.03), which has BERT's deviation and is drawn faster. */
function initialise(model: Module): void {
  for (const [name, parameter] of model.namedParameters())
    if (parameter.shape.length > 1) initUniform(parameter, stream.fold(name), 0.03);
}

/** RoBERTa with a classification head of three classes. */
export const roberta: MakeSubject = (gpu, sizes) => {
  const config = parseRobertaConfig({
    model_type: "roberta",
    vocab_size: sizes.vocabulary,
    hidden_size: sizes.channels,
    num_hidden_layers: sizes.layers,
    num_attention_heads: sizes.heads,
    intermediate_size: 4 * sizes.channels,
    max_position_embeddings: sizes.tokens + 2,
    num_labels: 3,
  });
  const model = new RobertaForSequenceClassification(gpu, config);
  initialise(model);
  const slots = new BatchSlots(gpu, model);
  const examples = Array.from({ length: sizes.batch }, (_, i) => ({
    ids: Int32Array.from({ length: sizes.tokens }, (_, t) => 5 + stream.integer(sizes.vocabulary - 5, i, t)),
    label: i % 3,
  }));
  const batch = collate(examples, [...examples.keys()], { padId: config.pad_token_id });
  let loaded: LoadedBatch = slots.load(batch);
  return {
    model,
    head: model.classifier.parameters(),
    labels: loaded.labels as Tensor, // every example has one
    load(passes) {
      loaded = slots.load(batch, passes);
    },
    logits: () => model.forward(loaded.input),
    dispose() {
      slots.dispose();
      model.dispose();
    },
  };
};

/** GPT-2 as a language model: every token has a label. */
export const gpt2: MakeSubject = (gpu, sizes) => {
  const { vocabulary, batch, tokens } = sizes;
  const model = new Gpt2LMHeadModel(
    gpu,
    parseGpt2Config({
      model_type: "gpt2",
      vocab_size: vocabulary,
      n_positions: tokens,
      n_embd: sizes.channels,
      n_layer: sizes.layers,
      n_head: sizes.heads,
    }),
  );
  initialise(model);
  const drawn = (name: string): Int32Array<ArrayBuffer> => {
    const own = stream.fold(name);
    return Int32Array.from({ length: batch * tokens }, (_, i) => own.integer(vocabulary, i));
  };
  const ids = drawn("ids");
  const positions = ids.map((_, i) => i % tokens);
  const slots = new Map<number, { inputIds: Tensor; positionIds: Tensor; attentionMask: null }>();
  const labels = tensor(gpu, drawn("labels"), [batch * tokens]);
  let passesLoaded = 1;
  return {
    model,
    head: [],
    labels,
    load(passes) {
      passesLoaded = passes;
      const shape = [passes * batch, tokens];
      const [allIds, allPositions] = [repeated(ids, passes), repeated(positions, passes)];
      const known = slots.get(passes);
      if (known) {
        known.inputIds.write(allIds);
        known.positionIds.write(allPositions);
      } else {
        const [inputIds, positionIds] = [tensor(gpu, allIds, shape), tensor(gpu, allPositions, shape)];
        slots.set(passes, { inputIds, positionIds, attentionMask: null });
      }
    },
    logits() {
      const input = slots.get(passesLoaded);
      if (!input) throw new Error("bench: load() comes before logits()");
      return tidy(() => model.forward(input).reshape(-1, vocabulary));
    },
    dispose() {
      for (const { inputIds, positionIds } of slots.values())
        for (const x of [inputIds, positionIds]) x.dispose();
      labels.dispose();
      model.dispose();
    },
  };
};

function repeated(values: Int32Array<ArrayBuffer>, times: number): Int32Array<ArrayBuffer> {
  const all = new Int32Array(values.length * times);
  for (let i = 0; i < times; i++) all.set(values, i * values.length);
  return all;
}

/** The task's loss of one pass. */
export function subjectLoss({ labels }: Subject, logits: Tensor): Tensor {
  return crossEntropy(logits, labels);
}
