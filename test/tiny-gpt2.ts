import type { Gpu } from "../src/array/index.ts";
import { type Tensor, tensor } from "../src/autograd/index.ts";
import { type CausalInput, causalPositions, Gpt2LMHeadModel, parseGpt2Config } from "../src/models/index.ts";
import type { Fixture } from "./fixtures.ts";
import { loadWeights } from "./tiny-encoder.ts";

export interface Gpt2Json {
  readonly config: Readonly<Record<string, unknown>>;
}

/** The model of a fixture with the weights w/* of `weights`. */
export function gpt2Of(gpu: Gpu, { json }: Fixture<Gpt2Json>, weights: Fixture<unknown>): Gpt2LMHeadModel {
  const model = new Gpt2LMHeadModel(gpu, parseGpt2Config(json.config));
  loadWeights(weights, model.stateDict());
  return model;
}

/** in/NAME of a fixture as i32 on the device, the rows repeated `passes` times. */
export function intsOf(gpu: Gpu, fixture: Fixture<unknown>, name: string, passes = 1): Tensor {
  const { shape, data } = fixture.ints(`in/${name}`);
  const all = new Int32Array(data.length * passes);
  for (let i = 0; i < passes; i++) all.set(data, i * data.length);
  return tensor(gpu, all, [(shape[0] as number) * passes, ...shape.slice(1)]);
}

/** The ids of a fixture with positions from 0 on; `masked`: with its padding mask. */
export function causalInputOf(
  gpu: Gpu,
  fixture: Fixture<unknown>,
  { passes = 1, masked = false }: { passes?: number; masked?: boolean } = {},
): CausalInput {
  const inputIds = intsOf(gpu, fixture, "input_ids", passes);
  const length = inputIds.shape[1] as number;
  const positions = causalPositions(new Int32Array(inputIds.size).fill(1), length, length);
  return {
    inputIds,
    positionIds: tensor(gpu, positions, inputIds.shape),
    attentionMask: masked ? intsOf(gpu, fixture, "attention_mask", passes) : null,
  };
}
