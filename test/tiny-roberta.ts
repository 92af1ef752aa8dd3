import type { Gpu } from "../src/array/index.ts";
import { type Parameter, type Tensor, tensor } from "../src/autograd/index.ts";
import {
  type EncoderInput,
  parseRobertaConfig,
  type RobertaConfig,
  robertaPositions,
} from "../src/models/index.ts";
import { type Fixture, loadFixture, withinFixture } from "./fixtures.ts";

export interface FixtureConfig {
  readonly [name: string]: unknown;
  readonly model: string;
  readonly dropout: number;
}

/** The config.json that a fixture's short config stands for. */
export function robertaConfigOf(config: FixtureConfig): RobertaConfig {
  return parseRobertaConfig({
    ...config,
    model_type: config.model,
    hidden_dropout_prob: config.dropout,
    attention_probs_dropout_prob: config.dropout,
  });
}

/** in/* of a fixture on the device, the rows repeated `passes` times. */
export function inputOf(
  gpu: Gpu,
  fixture: Fixture<unknown>,
  config: RobertaConfig,
  passes = 1,
): EncoderInput {
  const { shape, data } = fixture.ints("in/input_ids");
  const mask = fixture.ints("in/attention_mask").data;
  const rows = [shape[0] as number, shape[1] as number] as const;
  const repeat = (values: Int32Array): Tensor => {
    const all = new Int32Array(values.length * passes);
    for (let i = 0; i < passes; i++) all.set(values, i * values.length);
    return tensor(gpu, all, [rows[0] * passes, rows[1]]);
  };
  return {
    inputIds: repeat(data),
    positionIds: repeat(robertaPositions(data, rows[1], config)),
    attentionMask: repeat(mask),
    poolingWeights: null,
  };
}

/** Writes w/* into the parameters of a model that have those names. */
export function loadWeights(base: Fixture<unknown>, parameters: ReadonlyMap<string, Parameter>): void {
  for (const [name, parameter] of parameters)
    parameter.write(Float32Array.from(base.floats(`w/${name}`).data));
}

/** Compares a tensor with a fixture's value under the README's rule. */
export async function expectFixture(
  fixture: Fixture<unknown>,
  key: string,
  actual: Tensor | null,
): Promise<void> {
  if (!actual) throw new Error(`${fixture.name} ${key}: nothing to compare`);
  const { data } = fixture.floats(key);
  withinFixture(await actual.data(), data, fixture.relerr(key), `${fixture.name} ${key}`);
}

export { type Fixture, loadFixture };
