// Causal pretraining: what tiny models learn, and that neither capture, accumulation nor an interruption changes it.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../src/array/index.ts";
import { Stream } from "../src/autograd/index.ts";
import { bpeTokenizer, PackedTexts } from "../src/data/index.ts";
import {
  type CausalLM,
  Gpt2LMHeadModel,
  LlamaForCausalLM,
  parseGpt2Config,
  parseLlamaConfig,
} from "../src/models/index.ts";
import {
  type CausalPretrainOptions,
  type CausalTrainingState,
  type DecoderRecipe,
  decodeAdamW,
  decoderRecipe,
  encodeAdamW,
  evaluateCausalLm,
  type FolderFiles,
  initCausalWeights,
  type KernelRecord,
  pretrainCausalLm,
  pretrainDecoder,
  type Stopwatch,
} from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";

const gpu: Gpu = await testGpu();
const training = suite("causal pretraining");

const VOCABULARY = 23;
const gpt2 = (dropout = 0): CausalLM =>
  new Gpt2LMHeadModel(
    gpu,
    parseGpt2Config({
      model_type: "gpt2",
      vocab_size: VOCABULARY,
      n_positions: 12,
      n_embd: 16,
      n_layer: 2,
      n_head: 2,
      embd_pdrop: dropout,
      resid_pdrop: dropout,
      attn_pdrop: dropout,
    }),
  );
const llama = (): CausalLM =>
  new LlamaForCausalLM(
    gpu,
    parseLlamaConfig({
      model_type: "llama",
      vocab_size: VOCABULARY,
      max_position_embeddings: 12,
      hidden_size: 16,
      intermediate_size: 40,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
    }),
  );

/** Counts from somewhere, in steps of 1 to 3: what comes next follows from two tokens before, the first is any. */
const texts = Array.from({ length: 60 }, (_, i) => {
  const length = 3 + ((i * 5) % 9);
  return Array.from({ length }, (_, t) => 1 + ((i * 7 + t * (1 + (i % 3))) % (VOCABULARY - 1)));
});
const rows = new PackedTexts(texts, { length: 11, endId: 0 });
const OPTIONS: CausalPretrainOptions = {
  rows,
  steps: 12,
  batchSize: 4,
  lr: 0.01,
  warmupSteps: 2,
  weightDecay: 0.1,
  seed: 3,
};

/** Parameters after a training, and its losses. */
async function trained(
  change: Partial<CausalPretrainOptions> = {},
  model: CausalLM = gpt2(),
): Promise<{ readonly values: Map<string, Float32Array>; readonly losses: number[] }> {
  const losses: number[] = [];
  if (!change.from) initCausalWeights(model, Stream.seed(1), 0.1);
  try {
    await pretrainCausalLm(gpu, model, {
      ...OPTIONS,
      reportEvery: 1,
      onReport: ({ loss }) => void losses.push(loss),
      ...change,
    });
    return { values: await valuesOf(model), losses };
  } finally {
    model.dispose();
  }
}

async function valuesOf(model: CausalLM): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>();
  for (const [name, parameter] of model.namedParameters())
    values.set(name, (await parameter.data()) as Float32Array);
  return values;
}

function assertSameValues(got: Map<string, Float32Array>, wanted: Map<string, Float32Array>): void {
  for (const [name, values] of wanted) assertBitEqual(got.get(name) ?? new Float32Array(), values, name);
}

training(
  "weights are N(0, std), smaller where layers write to the residual stream, and LayerNorms stay",
  async () => {
    for (const [make, written] of [
      [gpt2, /c_proj\.weight$/],
      [llama, /(o|down)_proj\.weight$/],
    ] as const) {
      const model = make();
      initCausalWeights(model, Stream.seed(5), 0.02);
      for (const [name, values] of await valuesOf(model)) {
        const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
        const sd = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
        const isMatrix = (model.stateDict().get(name)?.shape.length ?? 0) > 1;
        const expected = !isMatrix ? 0 : written.test(name) ? 0.02 / Math.sqrt(4) : 0.02;
        assert.ok(Math.abs(sd - expected) <= 0.2 * expected, `${name}: ${sd}, expected ${expected}`);
      }
      model.dispose();
    }
  },
);

for (const [name, make] of [
  ["gpt2", gpt2],
  ["llama", llama],
] as const)
  training(`${name}: capture changes no byte`, async () => {
    const [captured, plain] = [await trained({}, make()), await trained({ capture: false }, make())];
    assert.equal(captured.losses, plain.losses);
    assert.is(captured.losses.length, 12);
    assertSameValues(captured.values, plain.values);
  });

training("two passes of half the rows make the step of one pass", async () => {
  // Not GPT-2, whose biases of keys have no gradient but rounding, which Adam makes large.
  const one = await trained({ steps: 3, batchSize: 6 }, llama());
  const two = await trained({ steps: 3, batchSize: 3, accumulate: 2 }, llama());
  for (const [step, loss] of one.losses.entries()) assert.ok(Math.abs(loss - (two.losses[step] ?? 0)) < 1e-5);
  for (const [name, values] of one.values)
    assertClose(two.values.get(name) ?? [], values, { atol: 1e-5, name });
});

training("dropout draws anew in each step and each pass, the same for the same seed", async () => {
  const p = 0.3;
  const run = (change: Partial<CausalPretrainOptions>) => trained({ steps: 4, lr: 1e-9, ...change }, gpt2(p));
  const [first, again, other, both] = [
    await run({}),
    await run({}),
    await run({ seed: 4 }),
    await run({ batchSize: 2, accumulate: 2 }),
  ];
  assert.equal(first.losses, again.losses);
  assert.not.equal(first.losses, other.losses);
  assert.not.equal(first.losses, both.losses, "the second pass has draws of its own");
  assertSameValues(first.values, again.values);
});

training("a training that goes on from a state gives the bytes of one that was never stopped", async () => {
  const whole = await trained({}, gpt2(0.2));
  const stopped: { values: Map<string, Float32Array>; state: CausalTrainingState }[] = [];
  const model = gpt2(0.2);
  initCausalWeights(model, Stream.seed(1), 0.1);
  await pretrainCausalLm(gpu, model, {
    ...OPTIONS,
    afterStep: async (step, state) => {
      if (step === 7) stopped.push({ values: await valuesOf(model), state: await state() });
    },
  });
  model.dispose();
  const [{ values, state }] = stopped as [(typeof stopped)[number]]; // pushed in step 7
  const fresh = gpt2(0.2);
  for (const [name, parameter] of fresh.namedParameters())
    parameter.write(new Float32Array(values.get(name) ?? []));
  const from = { ...state, optimiser: decodeAdamW(encodeAdamW(state.optimiser)) };
  const rest = await trained({ from }, fresh);
  assert.equal(rest.losses, whole.losses.slice(7));
  assertSameValues(rest.values, whole.values);
});

training("the loss on rows is the mean over all of their tokens, whatever the batches", async () => {
  const model = gpt2();
  initCausalWeights(model, Stream.seed(1), 0.5);
  const losses: number[] = [];
  for (const batchSize of [1, 5, rows.rows, 1000]) {
    const { loss, tokens } = await evaluateCausalLm(model, rows, { batchSize });
    assert.is(tokens, rows.rows * 11);
    losses.push(loss);
  }
  for (const loss of losses) assert.ok(Math.abs(loss - (losses[0] ?? 0)) < 1e-5, losses.join(" "));
  model.dispose();
});

training("options that make no training are refused, and a loss that is no number ends it", async () => {
  const refused = async (change: Partial<CausalPretrainOptions>, message: RegExp): Promise<void> => {
    const error = await trained(change).then(
      () => new Error("no error"),
      (reason: Error) => reason,
    );
    assert.match(error.message, message);
  };
  const long = new PackedTexts(texts, { length: 13, endId: 0 });
  await refused({ rows: long }, /rows of 13 tokens; the model has positions for 12 \(pack shorter rows\)/);
  await refused({ steps: 0 }, /pretrain: steps is 0, expected a whole number of 1 or more/);
  await refused({ accumulate: 1.5 }, /pretrain: accumulate is 1.5/);
  const message = /pretrain: the loss of step \d+ is NaN; lower the learning rate/;
  await refused({ lr: 1e38, warmupSteps: 0 }, message);
});

function packedLines(files: FolderFiles, lines: readonly string[]): PackedTexts {
  const tokenizer = bpeTokenizer(String(files.get("vocab.json")), String(files.get("merges.txt")), {
    template: "none",
  });
  return new PackedTexts(
    lines.map((line) => tokenizer.encode(line)),
    { length: 1, endId: 0 },
  );
}

/** -Σ p log p over the tokens of a stream: what a model reaches that knows how often each comes. */
function unigramEntropy(packed: PackedTexts): number {
  const { labels } = packed.batch(Array.from({ length: packed.rows }, (_, row) => row));
  const counts = new Map<number, number>();
  for (const id of labels) counts.set(id, (counts.get(id) ?? 0) + 1);
  return [...counts.values()].reduce((sum, n) => sum - (n / labels.length) * Math.log(n / labels.length), 0);
}

const NAMES =
  "sunday monday tuesday wednesday thursday friday saturday january february march april may june july august september october november december";

/** Twelve names from any on, round and round: where a text begins is all that is left to guess. */
const names = NAMES.split(" ");
const lines = Array.from({ length: 700 }, (_, i) =>
  Array.from({ length: 12 }, (_, t) => names[(i * 7 + t) % names.length]).join(" "),
);
const RECIPE: Partial<DecoderRecipe> = {
  vocabSize: 300,
  hiddenSize: 32,
  layers: 2,
  heads: 4,
  maxLength: 24,
  steps: 60,
  batchSize: 8,
  lr: 0.01,
};

for (const given of [
  { ...RECIPE, architecture: "gpt2" },
  { ...RECIPE, architecture: "llama", keyValueHeads: 2 },
] as const)
  training(
    `${given.architecture}: from texts to a model that knows what follows; stopped and gone on`,
    async () => {
      const recipe = decoderRecipe(given);
      const data = { train: lines.slice(0, 670), held: lines.slice(670) };
      const scores: number[] = [];
      const saved: FolderFiles[] = [];
      const made = await pretrainDecoder(gpu, recipe, data, {
        evaluate: { everySteps: 25, onScores: (_, { loss }) => void scores.push(loss) },
        checkpoint: { everySteps: 50, save: (files) => void saved.push(files) },
      });
      const entropy = unigramEntropy(packedLines(made.files, data.train));
      assert.ok(made.loss < 0.3 * entropy, `held-out loss ${made.loss}, entropy of single tokens ${entropy}`);
      assert.is(scores.length, 2, "the last step is scored by its result");
      assert.ok(
        (scores[0] ?? 0) > (scores[1] ?? 0) && (scores[1] ?? 0) > made.loss,
        `${scores} ${made.loss}`,
      );

      const from = bytesOfFiles(saved[0]);
      const resumed = await pretrainDecoder(gpu, recipe, data, { from });
      assert.equal(resumed.files, made.files, "a resumed training writes the same files");
      const other = await pretrainDecoder(
        gpu,
        recipe,
        { ...data, train: lines.slice(0, 660) },
        { from },
      ).catch((error: Error) => error.message);
      assert.match(
        String(other),
        /the tokens of these texts are not those that training began with \(\w{8}, were/,
      );
    },
  );

training("tuned: what goes on takes the kernels that it began with, and writes the same files", async () => {
  const recipe = decoderRecipe({ ...RECIPE, steps: 4 });
  const data = { train: lines.slice(0, 40), held: lines.slice(690) };
  const saved: FolderFiles[] = [];
  const stopwatch = (form: string): Stopwatch => {
    return async (run, name) => {
      run();
      return name.endsWith(form) ? 1 : 2;
    };
  };
  const made = await pretrainDecoder(gpu, recipe, data, {
    tune: { rounds: 1, most: 3, stopwatch: stopwatch("plain") },
    checkpoint: { everySteps: 2, save: (files) => void saved.push(files) },
  });
  const kernels: KernelRecord = JSON.parse(String(made.files.get("kernels.json")));
  assert.ok(Object.values(kernels.products).some(({ form, table }) => form !== table));
  const from = bytesOfFiles(saved[0]);
  assert.equal((await pretrainDecoder(gpu, recipe, data, { from })).files, made.files, "gone on");
  assert.equal((await pretrainDecoder(gpu, recipe, data, { kernels })).files, made.files, "again");
  const refused = await pretrainDecoder(gpu, recipe, data, { from, kernels }).catch(String);
  assert.match(String(refused), /goes on with the kernels that it began with; leave kernels out/);

  const plain = await pretrainDecoder(gpu, recipe, data);
  assert.not(plain.files.has("kernels.json"));
  const same = await pretrainDecoder(gpu, recipe, data, {
    tune: { rounds: 1, most: 3, stopwatch: stopwatch("none of them") },
  });
  const weights = ({ files }: { readonly files: FolderFiles }) => files.get("model.safetensors");
  assert.equal(weights(same), weights(plain), "tuning leaves no trace where the table wins");
});

function bytesOfFiles(files: FolderFiles = new Map()): Map<string, Uint8Array> {
  const encoder = new TextEncoder();
  return new Map(
    [...files].map(([name, content]) => [
      name,
      typeof content === "string" ? encoder.encode(content) : content,
    ]),
  );
}

training.run();
