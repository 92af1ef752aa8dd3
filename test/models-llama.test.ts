// The Llama family against a float64 forward pass of its own; padding on both sides; configs.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { crossEntropy, Stream, tensor } from "../src/autograd/index.ts";
import { causalPositions, generate, LlamaForCausalLM, parseLlamaConfig } from "../src/models/index.ts";
import { AdaptationSet, lora } from "../src/peft/index.ts";
import { assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { withinFixture } from "./fixtures.ts";
import { type LlamaSizes, llamaLogits, nextTokenLoss } from "./reference/llama.ts";

const gpu = await testGpu();
const test = suite("Llama");

const QWEN = {
  model_type: "qwen2",
  vocab_size: 23,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 40,
  rms_norm_eps: 1e-5,
  rope_theta: 1000,
  tie_word_embeddings: true,
};
/** Biases everywhere, heads that do not make up the hidden size, stretched positions, a head of its own. */
const LLAMA = {
  ...QWEN,
  model_type: "llama",
  head_dim: 6,
  num_key_value_heads: 1,
  attention_bias: true,
  mlp_bias: true,
  tie_word_embeddings: false,
  rope_scaling: { rope_type: "linear", factor: 2 },
};

function randomModel(json: Readonly<Record<string, unknown>>): LlamaForCausalLM {
  const model = new LlamaForCausalLM(gpu, parseLlamaConfig(json));
  for (const [name, parameter] of model.namedParameters()) {
    const isNorm = name.includes("norm");
    parameter.write(
      Stream.seed(5)
        .fold(name)
        .normal(parameter.size, isNorm ? 1 : 0, 0.3),
    );
  }
  return model;
}

async function valuesOf(model: LlamaForCausalLM): Promise<Map<string, Float64Array>> {
  const values = new Map<string, Float64Array>();
  for (const [name, parameter] of model.namedParameters())
    values.set(name, Float64Array.from(await parameter.data()));
  return values;
}

function sizesOf({ config: c }: LlamaForCausalLM): LlamaSizes {
  return {
    hidden: c.hidden_size,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    kvHeads: c.num_key_value_heads,
    size: c.head_dim,
    eps: c.rms_norm_eps,
    theta: c.rope_theta,
    stretch: c.rope_scaling?.factor ?? 1,
  };
}

function inputOf(rows: readonly (readonly number[])[], mask: readonly (readonly number[])[] | null = null) {
  const shape = [rows.length, (rows[0] ?? []).length] as const;
  const kept = Int32Array.from((mask ?? rows.map((row) => row.map(() => 1))).flat());
  return {
    inputIds: tensor(gpu, Int32Array.from(rows.flat()), shape),
    positionIds: tensor(gpu, causalPositions(kept, shape[1], shape[1]), shape),
    attentionMask: mask ? tensor(gpu, kept, shape) : null,
  };
}

const TEXTS = [
  [3, 7, 1, 22, 9, 3],
  [5, 5, 12, 0, 18, 20],
];

for (const json of [QWEN, LLAMA]) {
  test(`${json.model_type}: logits, and gradients by central differences`, async () => {
    const model = randomModel(json);
    const [weights, sizes] = [await valuesOf(model), sizesOf(model)];
    const logits = model.forward(inputOf(TEXTS));
    const expected = TEXTS.flatMap((ids) => llamaLogits(weights, ids, sizes).flatMap((row) => [...row]));
    // PyTorch's own f32 runs of such models are off by 5e-7.
    withinFixture(await logits.data(), expected, 5e-7, "logits");

    const vocabulary = model.vocabularySize;
    const rows = logits.slice(1, 0, 5).reshape(-1, vocabulary);
    const loss = crossEntropy(rows, tensor(gpu, Int32Array.from(TEXTS.flatMap((ids) => ids.slice(1)))));
    loss.backward();
    const lossAt = (): number =>
      TEXTS.reduce((sum, ids) => sum + nextTokenLoss(llamaLogits(weights, ids, sizes), ids), 0) /
      TEXTS.length;
    assertClose([await loss.item()], [lossAt()], { rtol: 1e-5 });
    for (const [name, parameter] of model.namedParameters()) {
      const values = weights.get(name) as Float64Array;
      const gradient = (await parameter.grad?.data()) ?? [];
      assert.is(gradient.length, values.length, name);
      const places = Array.from({ length: 7 }, (_, i) => Math.floor((i * (values.length - 1)) / 6));
      const differences = places.map((place) => {
        const value = values[place] as number;
        const at = (x: number): number => {
          values[place] = x;
          return lossAt();
        };
        const slope = (at(value + 1e-6) - at(value - 1e-6)) / 2e-6;
        values[place] = value;
        return slope;
      });
      const own = places.map((place) => gradient[place] ?? Number.NaN);
      assertClose(own, differences, { atol: 1e-5, rtol: 1e-3, name });
    }
    model.dispose();
  });
}

test("padding at the left, at the right, or none: a text has the same logits", async () => {
  const model = randomModel(LLAMA);
  const ids = [3, 7, 1];
  const alone = await model.forward(inputOf([ids])).data();
  const input = inputOf(
    [
      [9, 9, ...ids],
      [...ids, 9, 9],
    ],
    [
      [0, 0, 1, 1, 1],
      [1, 1, 1, 0, 0],
    ],
  );
  const padded = model.forward(input);
  withinFixture(await padded.slice(0, 0, 1).slice(1, 2, 5).data(), alone, 5e-7, "left");
  withinFixture(await padded.slice(0, 1, 2).slice(1, 0, 3).data(), alone, 5e-7, "right");
  model.dispose();
});

test("with a cache and without, prompts of different lengths continue alike", async () => {
  const before = liveBytes(gpu);
  const model = randomModel(LLAMA);
  const prompts = [[1, 2, 3, 4], [5], [6, 7]];
  const together = await generate(model, prompts, { maxNew: 12 });
  assert.equal(await generate(model, prompts, { maxNew: 12, cache: false }), together);
  for (const [i, prompt] of prompts.entries())
    assert.equal(await generate(model, [prompt], { maxNew: 12 }), [together[i]]);
  model.dispose();
  assert.is(liveBytes(gpu), before);
});

test("tables of angles grow beyond their first length", async () => {
  const model = randomModel({ ...QWEN, max_position_embeddings: 600 });
  const ids = Array.from({ length: 300 }, (_, i) => (i * 7) % 23);
  const short = await model.forward(inputOf([ids.slice(0, 10)])).data();
  const long = model.forward(inputOf([ids]));
  const last = llamaLogits(await valuesOf(model), ids, sizesOf(model)).at(-1) as Float64Array;
  withinFixture(await long.slice(1, 299, 300).data(), last, 5e-7, "position 299");
  withinFixture(await long.slice(1, 0, 10).data(), short, 5e-7, "first positions");
  model.dispose();
});

test("LoRA starts as the identity on every linear site, and gets gradients", async () => {
  const model = randomModel(LLAMA);
  model.setRequiresGrad(false);
  const plain = await model.forward(inputOf(TEXTS)).data();
  const targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
  const set = new AdaptationSet(gpu, model, lora({ rank: 2, targets }), { stream: Stream.seed(1) });
  assert.is(set.parameters().length, 2 * 7 * 2);
  const logits = model.forward(inputOf(TEXTS));
  withinFixture(await logits.data(), plain, 5e-7, "logits");
  logits.mul(logits).sum().backward();
  for (const [name, parameter] of set.namedParameters())
    if (name.includes("lora_B"))
      assert.ok(
        (await parameter.grad?.data())?.some((value) => value !== 0),
        name,
      );
  set.dispose();
  model.dispose();
});

test("an unsupported config is refused", () => {
  const refused = (change: object, message: RegExp): void => {
    assert.throws(() => parseLlamaConfig({ ...QWEN, ...change }), message);
  };
  refused({ model_type: "mamba" }, /config: model_type is "mamba"; supported: "llama", "qwen2"/);
  refused({ model_type: undefined }, /config: no "model_type"; supported/);
  refused({ hidden_act: "gelu" }, /config: hidden_act is "gelu"; supported: "silu"/);
  refused({ use_sliding_window: true }, /use_sliding_window is true; supported: false/);
  refused({ num_key_value_heads: 3 }, /num_attention_heads 4 do not share num_key_value_heads 3 evenly/);
  refused({ hidden_size: 18 }, /hidden_size 18 does not split into 4 heads/);
  refused({ head_dim: 5 }, /head_dim is 5, expected an even number/);
  refused({ rope_scaling: { rope_type: "yarn", factor: 2 } }, /rope_scaling of type "yarn"; supported/);
  refused({ rope_scaling: { type: "linear" } }, /factor is missing, expected a number/);
  refused({ rope_scaling: 2 }, /rope_scaling is 2, expected an object/);
  refused({ eos_token_id: "end" }, /eos_token_id is "end", expected a token id/);
  const scaling = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  refused({ rope_scaling: scaling }, /original_max_position_embeddings is missing/);
  const full = { ...scaling, original_max_position_embeddings: 8192 };
  const parsed = parseLlamaConfig({ ...QWEN, rope_scaling: full, eos_token_id: [3, 4] });
  assert.equal(parsed.rope_scaling, full);
  assert.equal(parsed.eos_token_id, [3, 4]);
  assert.equal(parseLlamaConfig(parsed), parsed);
});

test.run();
