// Fine-tuning causal language models on completions: the data line, the loss, the consistency over tokens, training.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import {
  type Completion,
  type CompletionText,
  collateCompletions,
  encodeCompletion,
  joinCompletion,
  readCompletions,
} from "../src/data/index.ts";
import {
  type CausalLM,
  Gpt2LMHeadModel,
  generate,
  LlamaForCausalLM,
  parseGpt2Config,
  parseLlamaConfig,
} from "../src/models/index.ts";
import { AdaptationSet, adamixAdapter, consistentLoss, givenRouter } from "../src/peft/index.ts";
import { completionTask } from "../src/train/fine-tune-causal.ts";
import {
  type FineTuneCausalOptions,
  fineTuneCausal,
  learnMergeCausal,
  type StepReport,
  type Stopwatch,
  scoreCompletions,
} from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames, loadFixture } from "./fixtures.ts";
import { adaptedGpt2, base, expectBankGradients, type Gpt2PeftJson } from "./gpt2-mixture.ts";
import { bytesOf } from "./peft.table.ts";
import { expectFixture } from "./tiny-encoder.ts";

const gpu = await testGpu();

const data = suite("completions");

data("context, separator, completion, end; only the completion and its end are learned", () => {
  const options = { separator: 9, end: 8 };
  const first = joinCompletion([1, 2], [3, 4], options);
  assert.equal([...first.ids], [1, 2, 9, 3, 4, 8]);
  assert.is(first.start, 3);
  const second = joinCompletion([], [5], options);
  const batch = collateCompletions([first, second], [1, 0], { padId: 0, multiple: 4, placesMultiple: 4 });
  assert.equal([...batch.inputIds], [9, 5, 8, 0, 0, 0, 0, 0, 1, 2, 9, 3, 4, 8, 0, 0]);
  assert.equal([...batch.attentionMask], [1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0]);
  // The place before each learned token, and that token; three places make the number round.
  assert.equal([...batch.places], [0, 1, 10, 11, 12, 0, 0, 0]);
  assert.equal([...batch.labels], [5, 8, 3, 4, 8, 0, 0, 0]);
  assert.equal([...batch.weights], [1, 1, 1, 1, 1, 0, 0, 0]);
});

data("too long a text loses its end; a context that leaves nothing is refused", () => {
  const options = { separator: 9, end: 8, maxLength: 4 };
  assert.equal([...joinCompletion([1, 2], [3, 4], options).ids], [1, 2, 9, 3]);
  assert.throws(
    () => joinCompletion([1, 2, 3], [4], options),
    /completion: a context of 3 tokens leaves no place for one in 4 \(cut the context, or raise maxLength\)/,
  );
  assert.throws(() => collateCompletions([], [2], { padId: 0 }), /there is no example 2; there are 0/);
});

data("texts become the data line: context, end of text, a blank and the completion, end of text", () => {
  const [first, second] = readCompletions("name : Aromi | area : city||Aromi is central .\n\na||b\n");
  assert.equal(first, { context: "name : Aromi | area : city", completion: "Aromi is central ." });
  const seen: string[] = [];
  const tokenizer = {
    eosId: 50256,
    encode: (text: string, _pair?: string | null, options?: { specials?: boolean }) => {
      assert.is(options?.specials, false);
      seen.push(text);
      return Int32Array.from(text, (letter) => letter.charCodeAt(0));
    },
  };
  const { ids, start } = encodeCompletion(tokenizer, second as CompletionText);
  assert.equal(seen, ["a", " b"]);
  assert.equal([[...ids], start], [[97, 50256, 32, 98, 50256], 2]);
  assert.throws(
    () => readCompletions("a||b\nonly this"),
    /line 2 has 1 parts, expected context\|\|completion/,
  );
  assert.throws(() => readCompletions("a||b||c"), /line 1 has 3 parts/);
  assert.throws(
    () => encodeCompletion({ ...tokenizer, eosId: null }, second as CompletionText),
    /the tokenizer has no token for the end of a text/,
  );
});

data.run();

const goldens = suite("AdaMix on completions against goldens");

/** The texts of the fixtures: tokens that are seen, and the first learned one. */
function fixtureTexts(): Completion[] {
  const { shape, data: ids } = base.ints("in/input_ids");
  const [size = 0, length = 0] = shape;
  const row = (name: string, i: number): number[] => [
    ...base.ints(`in/${name}`).data.subarray(i * length, (i + 1) * length),
  ];
  return Array.from({ length: size }, (_, i) => ({
    ids: Int32Array.from(ids.subarray(i * length, i * length + 1 + row("loss_mask", i).lastIndexOf(1) + 1)),
    start: row("loss_mask", i).indexOf(1) + 1,
  }));
}

for (const name of fixtureNames("adamix_gpt2")) {
  const fixture = loadFixture<Gpt2PeftJson>(name);
  for (const apart of [false, true]) {
    goldens(`${name}: ${apart ? "one pass after the other" : "both passes in one batch"}`, async () => {
      const { model, set } = adaptedGpt2(gpu, fixture);
      const { route_pass1, route_pass2, kl_weight: weight } = fixture.json;
      const train = fixtureTexts();
      const task = completionTask(gpu, model, set.parameters(), { train, multiple: 1, placesMultiple: 7 });
      const batch = task.load(Int32Array.of(0, 1, 2), apart ? 1 : 2);
      set.routes.draw(givenRouter([route_pass1, route_pass2]), { step: 0, passes: 2, apart });
      const pass = (number: number) => {
        set.routes.usePass(number);
        return batch.forward({});
      };
      const all = apart ? null : batch.forward({});
      const places = 21; // 18 tokens are learned
      const first = all?.slice(0, 0, places) ?? pass(0);
      const second = all?.slice(0, places, 2 * places) ?? pass(1);
      const losses = {
        task: (z: typeof first) => batch.loss(z),
        distance: (a: typeof first, b: typeof first) => batch.distance(a, b),
      };
      const { loss, task: own, consistency } = consistentLoss([first, second], losses, { weight });
      await expectFixture(fixture, "out/task_loss_pass1", own);
      await expectFixture(fixture, "out/symkl", consistency);
      await expectFixture(fixture, "out/loss", loss);
      loss.backward();
      await expectBankGradients(fixture, "pgrad_detach", set);
      task.dispose();
      set.dispose();
      model.dispose();
    });
  }
}

goldens.run();

const training = suite("causal fine-tuning");

const GPT2 = {
  model_type: "gpt2",
  vocab_size: 29,
  n_embd: 16,
  n_layer: 2,
  n_head: 2,
  n_positions: 24,
  embd_pdrop: 0,
  attn_pdrop: 0.1,
  resid_pdrop: 0.1,
  eos_token_id: 28,
};
const LLAMA = {
  model_type: "llama",
  vocab_size: 29,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 24,
  rms_norm_eps: 1e-5,
  rope_theta: 1000,
  tie_word_embeddings: false,
  eos_token_id: 28,
};
const families: readonly { readonly name: string; build(): CausalLM }[] = [
  {
    name: "GPT-2",
    build: () => scrambled(new Gpt2LMHeadModel(gpu, parseGpt2Config(GPT2))),
  },
  {
    name: "Llama",
    build: () => scrambled(new LlamaForCausalLM(gpu, parseLlamaConfig(LLAMA))),
  },
];

function scrambled<M extends CausalLM>(model: M): M {
  for (const [name, parameter] of model.namedParameters())
    if (parameter.shape.length > 1) parameter.write(Stream.seed(5).fold(name).normal(parameter.size, 0, 0.3));
  return model.setRequiresGrad(false);
}

/** Contexts of one to three tokens, all completed alike. */
const train = Array.from({ length: 12 }, (_, i) => {
  const token = 3 + (i % 4);
  const context = Array.from({ length: 1 + (i % 3) }, () => token);
  return joinCompletion(context, [7, 9], { separator: 27, end: 28 });
});

async function tuned(family: (typeof families)[number], options: Partial<FineTuneCausalOptions> = {}) {
  const model = family.build();
  const frozen = await bytesOf(model.namedParameters());
  const method = adamixAdapter({ bottleneck: 6, experts: 2, targets: ["mlp.output"] });
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  const reports: StepReport[] = [];
  const { optimiser, kernels } = await fineTuneCausal(gpu, model, set, {
    train,
    steps: 40,
    batchSize: 6,
    lr: 0.03,
    seed: 2,
    multiple: 4,
    placesMultiple: 4,
    consistency: { weight: 1 },
    ...options,
    onStep: (report) => reports.push(report),
  });
  return { model, set, optimiser, kernels, frozen, reports, losses: reports.map(({ loss }) => loss) };
}

for (const family of families) {
  training(`${family.name} learns its completions; the base keeps its bytes`, async () => {
    const { model, set, optimiser, frozen, losses } = await tuned(family);
    const mean = (values: number[]): number => values.reduce((a, b) => a + b) / values.length;
    const [early, late] = [mean(losses.slice(0, 4)), mean(losses.slice(-4))];
    assert.ok(late < 0.6 * early, `${early} -> ${late}`);
    for (const [name, bytes] of await bytesOf(model.namedParameters()))
      assertBitEqual(bytes, frozen.get(name) ?? new Float32Array(), name);
    const merged = set.mergeExperts(model, Stream.seed(2));
    set.detach();
    merged.attach();
    const padding = { multiple: 4, placesMultiple: 4 };
    const { nll, perplexity, tokens } = await scoreCompletions(gpu, model, train, padding);
    assert.ok(nll < 0.6 * early, `merged experts: ${early} -> ${nll}`);
    assert.is(tokens, 36, "two tokens and the end, of twelve texts");
    assertClose([perplexity], [Math.exp(nll)], { rtol: 1e-12 });
    const small = await scoreCompletions(gpu, model, train, { ...padding, batchSize: 5 });
    assertClose([small.nll], [nll], { rtol: 1e-5, name: "in batches of five" });
    merged.detach();
    set.attach();
    const weights = await learnMergeCausal(gpu, model, set, {
      train,
      batchSize: 6,
      steps: 20,
      lr: 0.2,
      seed: 1,
    });
    set.detach();
    merged.setToMeanOf(set, weights);
    merged.attach();
    const learned = await scoreCompletions(gpu, model, train, padding);
    assert.ok(learned.nll < nll, `learned weights: ${nll} -> ${learned.nll}`);
    const [made] = await generate(model, [[5, 5, 27]], { maxNew: 4, stopTokens: [28] });
    assert.ok(made?.stopped, `the end is learned: ${made?.ids}`);
    for (const one of [merged, set, optimiser, model]) one.dispose();
  });

  for (const routing of ["batch", "example", "token"] as const) {
    training(`${family.name}, routes per ${routing}: captured or not, apart or not`, async () => {
      const [GPT] = families;
      const steps = family === GPT ? 6 : 4;
      const runs: number[][] = [];
      for (const options of [{}, { capture: false }, { passesInOneBatch: false }]) {
        const run = await tuned(family, { ...options, steps, routing });
        runs.push(run.losses);
        for (const one of [run.set, run.optimiser, run.model]) one.dispose();
      }
      const [captured = [], plain = [], apart = []] = runs;
      assert.equal(plain, captured, "captured");
      assert.is(apart[0], captured[0], "the first loss of passes apart: the same bits");
      assertClose(apart, captured, { rtol: 2e-4, name: "losses of passes apart" });
    });
  }
}

training("kernels that were tuned are kept, and repeat the run", async () => {
  const [family] = families as [(typeof families)[number]];
  const stopwatch: Stopwatch = async (run, name) => {
    run();
    return name.endsWith("plain") ? 1 : 2;
  };
  const first = await tuned(family, { steps: 3, tune: { rounds: 1, stopwatch, most: 3, batches: 2 } });
  const { kernels } = first;
  assert.ok(kernels && Object.values(kernels.products).some(({ form, table }) => form !== table));
  const again = await tuned(family, { steps: 3, kernels });
  assert.equal(again.losses, first.losses);
  for (const run of [first, again]) for (const one of [run.set, run.optimiser, run.model]) one.dispose();
});

training("from the third step of each shape on nothing is created", async () => {
  const [family] = families as [(typeof families)[number]];
  const settled = (): object => {
    const { created, bindGroups, kernels } = gpu.device.statistics();
    return { created, bindGroups, kernels };
  };
  let after: object = {};
  const run = await tuned(family, {
    steps: 40,
    batchSize: 2,
    routing: "example",
    beforeStep: async (step) => {
      if (step === 25) after = settled();
      if (step > 25) assert.equal(settled(), after, `before step ${step}`);
    },
  });
  for (const one of [run.set, run.optimiser, run.model]) one.dispose();
});

training("λ is 100 unless said, and labels are smoothed where that is asked for", async () => {
  const [family] = families as [(typeof families)[number]];
  const first = async (options: Partial<FineTuneCausalOptions>): Promise<StepReport> => {
    const run = await tuned(family, { steps: 1, lr: 0, consistency: {}, ...options });
    for (const one of [run.set, run.optimiser, run.model]) one.dispose();
    return run.reports[0] as StepReport;
  };
  const none = await first({ consistency: { weight: 0 } });
  const usual = await first({});
  assertClose([usual.loss], [none.loss + 100 * (none.consistency ?? 0)], { rtol: 1e-6 });
  const smooth = await first({ consistency: { weight: 0 }, labelSmoothing: 0.1 });
  assert.not.equal(smooth.loss, none.loss);
});

training("texts that do not fit the model are refused before anything runs", () => {
  const [family] = families as [(typeof families)[number]];
  const model = family.build();
  const refused = (text: Completion, message: RegExp): void =>
    void assert.throws(() => completionTask(gpu, model, model.parameters(), { train: [text] }), message);
  refused(
    { ids: new Int32Array(25), start: 3 },
    /example 0 has 25 tokens; the model has positions for 24 \(set maxLength\)/,
  );
  refused(
    { ids: new Int32Array(5), start: 5 },
    /example 0 of 5 tokens begins its completion at 5; expected 1\.\.4/,
  );
  refused(
    { ids: Int32Array.of(1, 29), start: 1 },
    /fineTuneCausal: example 0 has the id 29 at place 1, not one of 0 \.\. 28/,
  );
  model.dispose();
});

training.run();
