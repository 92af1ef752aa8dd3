import type { Gpu } from "../src/array/index.ts";
import { type Parameter, type Tensor, tensor } from "../src/autograd/index.ts";
import {
  type EncoderInput,
  type EncoderModel,
  modelFamily,
  modelHead,
  parseRobertaConfig,
  type RobertaConfig,
  type SequenceClassifier,
  type TaskModels,
} from "../src/models/index.ts";
import { type Fixture, loadFixture, withinFixture } from "./fixtures.ts";

export interface FixtureConfig {
  readonly [name: string]: unknown;
  readonly model: string;
  readonly dropout: number;
}

/** The config.json that a fixture's short config stands for. */
function configJson(config: FixtureConfig): object {
  return {
    ...config,
    model_type: config.model,
    hidden_dropout_prob: config.dropout,
    attention_probs_dropout_prob: config.dropout,
  };
}

export function robertaConfigOf(config: FixtureConfig): RobertaConfig {
  return parseRobertaConfig(configJson(config));
}

/** The model of a fixture's config for a task, whichever family it is of. */
export function modelOf<Task extends keyof TaskModels>(
  gpu: Gpu,
  config: FixtureConfig,
  task: Task,
): TaskModels[Task] {
  const json = configJson(config);
  const family = modelFamily(json);
  return modelHead(family, task).make(gpu, family.parseConfig(json));
}

/** A classifier with the weights of `base`, frozen but for its head. */
export function frozenClassifier(gpu: Gpu, base: Fixture<{ config: FixtureConfig }>): SequenceClassifier {
  const model = modelOf(gpu, base.json.config, "sequence-classification");
  loadWeights(base, model.stateDict());
  model.setRequiresGrad(false);
  model.head.setRequiresGrad(true);
  return model;
}

/** in/* of a fixture on the device, the rows repeated `passes` times. */
export function inputOf(gpu: Gpu, fixture: Fixture<unknown>, model: EncoderModel, passes = 1): EncoderInput {
  const { shape, data } = fixture.ints("in/input_ids");
  const rows = [shape[0] as number, shape[1] as number] as const;
  const repeat = (values: Int32Array): Tensor => {
    const all = new Int32Array(values.length * passes);
    for (let i = 0; i < passes; i++) all.set(values, i * values.length);
    return tensor(gpu, all, [rows[0] * passes, rows[1]]);
  };
  const hasTypes = fixture.keys("in/token_type_ids").length > 0;
  return {
    inputIds: repeat(data),
    positionIds: repeat(model.positionsOf(data, rows[1])),
    attentionMask: repeat(fixture.ints("in/attention_mask").data),
    tokenTypeIds: hasTypes ? repeat(fixture.ints("in/token_type_ids").data) : null,
    poolingWeights: null,
  };
}

/** Trained parameters of a model by name. */
export function trainedOf(model: SequenceClassifier): [string, Parameter][] {
  return [...model.namedParameters()].filter(([, parameter]) => parameter.requiresGrad);
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
