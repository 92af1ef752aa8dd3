import { argmax, type Gpu, noGrad, Stream, tensor, tidy } from "../src/index.ts";
import { Gpt2LMHeadModel, KeyValueCache, parseGpt2Config } from "../src/models/index.ts";
import { initNormal } from "../src/nn/index.ts";
import type { Case } from "./measure.ts";

/** GPT-2 small. */
const CONFIG = {
  model_type: "gpt2",
  vocab_size: 50_257,
  n_positions: 1024,
  n_embd: 768,
  n_layer: 12,
  n_head: 12,
};
/** Tokens that a text has when the measured one is found. */
const POSITION = 256;

/** The likeliest next token of one text of 256 tokens: of the last one, with keys and values of the others, or of all. */
function tokenCase(cached: boolean): Case {
  return {
    name: `token ${POSITION} of GPT-2 small, ${cached ? "with" : "without"} the cache`,
    amount: 1,
    unit: "tokens/s",
    clock: "device",
    setup: (gpu) => prepare(gpu, cached),
  };
}

function prepare(gpu: Gpu, cached: boolean): { run(): void; dispose(): void } {
  const model = new Gpt2LMHeadModel(gpu, parseGpt2Config(CONFIG));
  for (const [name, parameter] of model.namedParameters())
    if (parameter.shape.length > 1) initNormal(parameter, Stream.seed(1).fold(name), 0.02);
  model.setRequiresGrad(false);
  const size = { ...model.cacheShape, rows: 1, capacity: POSITION };
  const cache = cached ? new KeyValueCache(gpu, size) : null;
  cache?.advance(POSITION - 1);
  const T = cached ? 1 : POSITION;
  const positions = Int32Array.from({ length: T }, (_, t) => POSITION - T + t);
  const input = {
    inputIds: tensor(gpu, positions, [1, T]),
    positionIds: tensor(gpu, positions, [1, T]),
    attentionMask: null,
  };
  return {
    run() {
      noGrad(() =>
        tidy(() => {
          const hidden = model.hidden(input, cache ? { cache } : {});
          argmax(model.logits(hidden.slice(1, T - 1, T).reshape(1, -1)), -1);
        }),
      );
      cache?.advance(-1);
    },
    dispose() {
      cache?.dispose();
      input.inputIds.dispose();
      input.positionIds.dispose();
      model.dispose();
    },
  };
}

/** One token of generation. */
export function generationCases(): Case[] {
  return [tokenCase(true), tokenCase(false)];
}
