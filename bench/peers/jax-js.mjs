// jax-js, on WebGPU or WebAssembly. Its rule: a function uses each of its arguments up; `.ref` lends one once more.
import { readFileSync } from "node:fs";
import * as jax from "@jax-js/jax";
import { backend, serve, someOf } from "./serve.ts";
import { installBrowser } from "./shim.ts";

const { jit, lax, nn, numpy: np, tree } = jax;
const [BETA1, BETA2, EPS] = [0.9, 0.999, 1e-8]; // of AdamW

await serve(async () => {
  const adapter = await installBrowser({ webgpu: backend === "webgpu" });
  await jax.init();
  jax.defaultDevice(backend);
  const manifest = new URL("node_modules/@jax-js/jax/package.json", import.meta.url);
  return { versions: { "jax-js": JSON.parse(readFileSync(manifest, "utf8")).version, adapter }, prepare };
});

/** Starts what results wait for: jax-js is lazy, and what is disposed before anybody asks for it is never computed. */
async function dispatch(results) {
  for (const x of tree.leaves(results)) {
    if (backend === "webgpu") await x.ref.gpuBuffer();
    else await x.blockUntilReady(); // WebAssembly computes here and now
  }
}

async function settle() {
  if (backend === "webgpu") await jax.getWebGPUDevice().queue.onSubmittedWorkDone();
}

async function prepare(given) {
  switch (given.kind) {
    case "step":
      return step(given);
    case "matmul":
      return forward(given, matmulOf(given.settings));
    case "gelu":
      return forward(given, ({ x }) => nn.gelu(x));
    case "softmax":
      return forwardAndBackward(given, ["x"], ({ x }) => nn.softmax(x));
    case "layerNorm":
      return forwardAndBackward(given, ["x", "weight", "bias"], ({ x, weight, bias }) =>
        layerNorm(x, weight, bias, given.settings.eps),
      );
    default:
      throw new RangeError(`jax-js: no work of kind "${given.kind}"`);
  }
}

function load(given, names = given.tensors.map(({ name }) => name)) {
  return Object.fromEntries(
    names.map((name) => [name, np.array(given.values(name)).reshape(given.shape(name))]),
  );
}

function matmulOf({ transposeA, transposeB }) {
  const dimensions = {
    lhsContractingDims: [transposeA ? 0 : 1],
    rhsContractingDims: [transposeB ? 1 : 0],
  };
  return ({ a, b }) => lax.dot(a, b, dimensions);
}

function layerNorm(x, weight, bias, eps) {
  return nn.standardize(x, -1, { epsilon: eps }).mul(weight).add(bias);
}

/** A function of loaded tensors. */
function forward(given, compute) {
  const inputs = load(given);
  const computed = jit(compute);
  let y = null;
  return {
    async run() {
      y?.dispose();
      y = computed(tree.ref(inputs));
      await dispatch(y);
    },
    settle,
    figures: async () => someOf(await y.ref.data()),
  };
}

/** y, and the gradients of `trained` for the gradient `dy` of y. */
function forwardAndBackward(given, trained, compute) {
  const { dy, ...inputs } = load(given);
  const computed = jit((arrays, gradient) => {
    const [y, pullBack] = jax.vjp(compute, [arrays]);
    const [gradients] = pullBack(gradient);
    return { y, ...gradients };
  });
  let results = null;
  return {
    async run() {
      if (results) tree.dispose(results);
      results = computed(tree.ref(inputs), dy.ref);
      await dispatch(results);
    },
    settle,
    async figures() {
      const found = [];
      for (const name of ["y", ...trained]) found.push(...someOf(await results[name].ref.data()));
      return found;
    },
  };
}

/** Mean cross-entropy of the encoder over all tokens. parameters: by name; ids, labels [B, T]. */
function lossOf(
  parameters,
  ids,
  labels,
  { layers, channels: C, heads, batch: B, tokens: T, vocabulary, eps },
) {
  const { words, positions, head, ...rest } = parameters;
  const norm = (x, name) => layerNorm(x, rest[`${name}.weight`], rest[`${name}.bias`], eps);
  const dense = (x, name) => np.matmul(x, rest[`${name}.weight`]).add(rest[`${name}.bias`]);
  const split = (x) => x.reshape([B, T, heads, C / heads]);
  let x = np.take(words, ids, 0).add(positions); // [B, T, C]
  for (let i = 0; i < layers; i++) {
    const qkv = np.split(dense(norm(x.ref, `${i}.norm1`), `${i}.qkv`), 3, -1).map(split);
    const attended = nn.dotProductAttention(...qkv).reshape([B, T, C]);
    x = x.add(dense(attended, `${i}.proj`));
    const inner = nn.gelu(dense(norm(x.ref, `${i}.norm2`), `${i}.up`)); // [B, T, 4C]
    x = x.add(dense(inner, `${i}.down`));
  }
  const logp = nn.logSoftmax(np.matmul(norm(x, "norm"), head)); // [B, T, V]
  return logp
    .mul(nn.oneHot(labels, vocabulary))
    .sum()
    .mul(-1 / (B * T));
}

/** AdamW of one parameter; decay: 0 for vectors. corrections: [1 - beta1^t, 1 - beta2^t]. */
function adamw({ value, m, v }, gradient, [c1, c2], lr, decay) {
  const nextM = m.mul(BETA1).add(gradient.ref.mul(1 - BETA1));
  const nextV = v.mul(BETA2).add(np.square(gradient).mul(1 - BETA2));
  const moved = nextM.ref.div(c1).div(np.sqrt(nextV.ref.div(c2)).add(EPS));
  return { value: value.mul(1 - lr * decay).sub(moved.mul(lr)), m: nextM, v: nextV };
}

async function step(given) {
  const { settings } = given;
  const { ids, labels, ...values } = load(given);
  const names = Object.keys(values);
  let state = Object.fromEntries(
    names.map((name) => [
      name,
      { value: values[name], m: np.zeros(given.shape(name)), v: np.zeros(given.shape(name)) },
    ]),
  );
  const stepped = jit((before, tokens, targets, c1, c2) => {
    const parameters = Object.fromEntries(names.map((name) => [name, before[name].value.ref]));
    const [loss, gradients] = jax.valueAndGrad((p) => lossOf(p, tokens, targets, settings))(parameters);
    const after = {};
    for (const name of names) {
      const decay = given.shape(name).length > 1 ? settings.weightDecay : 0;
      after[name] = adamw(before[name], gradients[name], [c1.ref, c2.ref], settings.lr, decay);
    }
    c1.dispose();
    c2.dispose();
    return [loss, after];
  });
  let [loss, t] = [null, 0];
  return {
    async run() {
      t++;
      loss?.dispose();
      [loss, state] = stepped(state, ids.ref, labels.ref, np.array(1 - BETA1 ** t), np.array(1 - BETA2 ** t));
      await dispatch([loss, state]);
    },
    settle,
    figures: async () => [...(await loss.ref.data())],
  };
}
