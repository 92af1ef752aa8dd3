// An option with a name that is not known is refused by every public function that takes options: it would be ignored.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as adamix from "../src/index.ts";
import * as nn from "../src/nn/index.ts";
import * as optim from "../src/optim/index.ts";
import * as peft from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const x = adamix.tensor(gpu, [1, 2, 3, 4, 5, 6], [2, 3]);
const ids = adamix.tensor(gpu, [0, 1], [2], { dtype: "i32" });
const loss = x.sum();
const draw = adamix.Stream.seed(1);

function messageOf(call: () => unknown): string {
  const before = gpu.device.statistics().dispatches;
  try {
    call();
  } catch (error) {
    assert.instance(error, adamix.ShapeError);
    assert.is(gpu.device.statistics().dispatches, before);
    return (error as Error).message;
  }
  return "no error";
}

// biome-ignore lint/suspicious/noExplicitAny: options that types would refuse
type Wrong = any;
type Call = (options: Wrong) => unknown;

/** Each function with an option of a name near to one of its own. */
const functions: Readonly<Record<string, readonly [call: Call, option: string, near: string]>> = {
  sum: [(o) => adamix.sum(x, [1], o), "keepdim", "keepDim"],
  mean: [(o) => adamix.mean(x, [1], o), "keepdim", "keepDim"],
  max: [(o) => adamix.max(x, [1], o), "keepdims", "keepDim"],
  min: [(o) => adamix.min(x, [1], o), "keep_dim", "keepDim"],
  argmax: [(o) => adamix.argmax(x, 1, o), "keepdim", "keepDim"],
  argmin: [(o) => adamix.argmin(x, 1, o), "keepdim", "keepDim"],
  logSumExp: [(o) => adamix.logSumExp(x, 1, o), "keepdim", "keepDim"],
  any: [(o) => adamix.any(x, 1, o), "keepdim", "keepDim"],
  all: [(o) => adamix.all(x, 1, o), "keepdim", "keepDim"],
  norm: [(o) => adamix.norm(x, 1, o), "keepdim", "keepDim"],
  prod: [(o) => adamix.prod(x, 1, o), "keepdim", "keepDim"],
  variance: [(o) => adamix.variance(x, 1, o), "corection", "correction"],
  std: [(o) => adamix.std(x, 1, o), "keepdim", "keepDim"],
  cumsum: [(o) => adamix.cumsum(x, 1, o), "reversed", "reverse"],
  topK: [(o) => adamix.topK(x, 1, 1, o), "Largest", "largest"],
  sort: [(o) => adamix.sort(x, 1, o), "decending", "descending"],
  argsort: [(o) => adamix.argsort(x, 1, o), "desc", ""],
  matmul: [(o) => adamix.matmul(x, x, { transposeB: true, ...o }), "transpose_a", "transposeA, transposeB"],
  linear: [(o) => adamix.linear(x, x, null, o), "activations", "activation"],
  bankLinear: [(o) => adamix.bankLinear(x, x.reshape(1, 2, 3), null, ids, o), "scales", "scale"],
  embedding: [(o) => adamix.embedding(x, ids, o), "paddingIdx", "paddingIndex"],
  dropout: [(o) => adamix.dropout(x, { p: 0.1, draw, ...o }), "P2", "p"],
  attention: [(o) => adamix.attention(x, x, x, null, { heads: 1, ...o }), "isCausal", "causal"],
  rotaryEmbedding: [(o) => adamix.rotaryEmbedding(x, x, x, o), "interleave", "interleaved"],
  crossEntropy: [(o) => adamix.crossEntropy(x, ids, o), "ignore_index", "ignoreIndex"],
  nllLoss: [(o) => adamix.nllLoss(x, ids, o), "weights", "weight"],
  symmetricKl: [(o) => adamix.symmetricKl(x, x, o), "gradients", "gradient"],
  klDivergence: [(o) => adamix.klDivergence(x, x, o), "log_target", "logTarget"],
  bceWithLogits: [(o) => adamix.bceWithLogits(x, x, o), "pos_weight", "posWeight"],
  mse: [(o) => adamix.mse(x, x, o), "Reduction", "reduction"],
  l1: [(o) => adamix.l1(x, x, o), "reductions", "reduction"],
  smoothL1: [(o) => adamix.smoothL1(x, x, o), "betas", "beta"],
  huber: [(o) => adamix.huber(x, x, o), "Delta", "delta"],
  tensor: [(o) => adamix.tensor(gpu, [1], [1], o), "type", "dtype"],
  full: [(o) => adamix.full(gpu, [1], 2, o), "dType", "dtype"],
  zeros: [(o) => adamix.zeros(gpu, [1], o), "dType", "dtype"],
  ones: [(o) => adamix.ones(gpu, [1], o), "dType", "dtype"],
  zerosLike: [(o) => adamix.zerosLike(x, o), "dType", "dtype"],
  onesLike: [(o) => adamix.onesLike(x, o), "dType", "dtype"],
  randn: [(o) => adamix.randn(gpu, [1], draw, o), "dType", "dtype"],
  arange: [(o) => adamix.arange(gpu, 0, 4, o), "steps", "step"],
  eye: [(o) => adamix.eye(gpu, 2, 2, o), "dType", "dtype"],
  grad: [(o) => adamix.grad(loss, [], o), "retain_graph", "retainGraph"],
  backward: [(o) => loss.backward(undefined, o), "retain_graph", "retainGraph"],
  capture: [(o) => adamix.capture(gpu, () => x, o), "regions", "region"],
  Parameter: [(o) => adamix.Parameter.zeros(gpu, [2], o), "slice", "slices"],
};

const decay = { lr: 1, totalSteps: 10 };

/** What layers, optimisers, schedules and methods are made with. */
const makers: typeof functions = {
  Linear: [(o) => new nn.Linear(gpu, 2, 2, o), "Bias", "bias"],
  linear: [(o) => new nn.Linear(gpu, 3, 3).forward(x, o), "activations", "activation"],
  LayerNorm: [(o) => new nn.LayerNorm(gpu, 2, o), "epsilon", ""],
  RmsNorm: [(o) => new nn.RmsNorm(gpu, 2, o), "EPS", "eps"],
  Embedding: [(o) => new nn.Embedding(gpu, 2, 2, o), "paddingIdx", "paddingIndex"],
  AdamW: [(o) => new optim.AdamW([], o), "weight_decay", "weightDecay"],
  SGD: [(o) => new optim.SGD([], o), "momentums", "momentum"],
  LossScaler: [(o) => new optim.LossScaler(gpu, o), "Growth", "growth"],
  constantSchedule: [(o) => optim.constantSchedule(1, o), "warmup_steps", "warmupSteps"],
  linearSchedule: [(o) => optim.linearSchedule({ ...decay, ...o }), "warmupStep", "warmupSteps"],
  cosineSchedule: [(o) => optim.cosineSchedule({ ...decay, ...o }), "cycle", "cycles"],
  polynomialSchedule: [(o) => optim.polynomialSchedule({ ...decay, ...o }), "powers", "power"],
  inverseSquareRootSchedule: [
    (o) => optim.inverseSquareRootSchedule({ lr: 1, ...o }),
    "timeScale",
    "timescale",
  ],
  adapter: [(o) => peft.adamixAdapter({ bottleneck: 2, ...o }), "expert", "experts"],
  lora: [(o) => peft.adamixLora({ rank: 2, ...o }), "target_modules", ""],
  prefix: [(o) => peft.prefix({ tokens: 2, ...o }), "token", "tokens"],
  prompt: [(o) => peft.prompt({ tokens: 2, ...o }), "inits", "init"],
  ia3: [(o) => peft.ia3(o), "target", "targets"],
  unipelt: [(o) => peft.unipelt({ lora: { rank: 1 }, ...o }), "Prefix", "prefix"],
  topLayers: [(o) => peft.topLayers({ layers: 1, ...o }), "layer", "layers"],
  topKRouter: [(o) => peft.topKRouter(o), "balanced", "balance"],
  twoPassLoss: [(o) => peft.twoPassLoss(x, ids, o), "gradients", "gradient"],
  AdaptationSet: [
    (o) => new peft.AdaptationSet(gpu, { sites: () => [] }, peft.ia3(), { stream: draw, ...o }),
    "names",
    "name",
  ],
};

const options = suite("unknown options");

for (const [what, calls] of Object.entries({ functions, makers })) {
  options(`${what} name what is wrong, and what is near`, () => expectRefusals(calls));
}

function expectRefusals(calls: typeof functions): void {
  for (const [name, [call, option, near]] of Object.entries(calls)) {
    const message = messageOf(() => adamix.tidy(() => void call({ [option]: true })));
    const hint = near === "" ? "there are " : `near: ${near}`;
    assert.match(message, `${name}: unknown option "${option}"; ${hint}`);
  }
}

options("what is no object is no options", () => {
  const wrong: Wrong = true;
  const message = "sum: options are true, expected an object with keepDim";
  assert.is(
    messageOf(() => adamix.sum(x, 1, wrong)),
    message,
  );
  assert.is(
    messageOf(() => adamix.sum(x, 1, null as Wrong)),
    message.replace("true", "null"),
  );
});

options.run();
