// TensorFlow.js, on WebGPU or WebAssembly. What a function makes inside tf.tidy is freed, but for what it returns.
import { createRequire } from "node:module";
import { dirname } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { backend, serve, someOf } from "./serve.ts";
import { installBrowser } from "./shim.ts";

const require = createRequire(import.meta.url);

await serve(async () => {
  const adapter = await installBrowser({ webgpu: backend === "webgpu" });
  const { setWasmPaths } = await import(`@tensorflow/tfjs-backend-${backend}`); // looks for navigator.gpu at once
  setWasmPaths?.(`${dirname(require.resolve("@tensorflow/tfjs-backend-wasm"))}/`);
  if (!(await tf.setBackend(backend))) throw new Error(`tfjs: its backend "${backend}" does not start here`);
  return { versions: { tfjs: tf.version.tfjs, adapter }, prepare };
});

/** Waits for the last of some tensors, by reading an element of it. WebAssembly has nothing to wait for. */
async function settle(tensors) {
  if (backend !== "webgpu") return;
  const last = tf.tidy(() => tf.slice(tf.reshape(tensors.at(-1), [-1]), 0, 1));
  await last.data();
  last.dispose();
}

async function prepare(given) {
  switch (given.kind) {
    case "step":
      return step(given);
    case "matmul": {
      const { transposeA, transposeB } = given.settings;
      return forward(given, ({ a, b }) => tf.matMul(a, b, transposeA, transposeB));
    }
    case "gelu":
      return forward(given, ({ x }) => gelu(x));
    case "softmax":
      return forwardAndBackward(given, ["x"], (x) => tf.softmax(x));
    case "layerNorm":
      return forwardAndBackward(given, ["x", "weight", "bias"], (x, weight, bias) =>
        layerNorm(x, weight, bias, given.settings.eps),
      );
    default:
      throw new RangeError(`tfjs: no work of kind "${given.kind}"`);
  }
}

function load(given, name) {
  const values = given.values(name);
  return tf.tensor(values, given.shape(name), values instanceof Int32Array ? "int32" : "float32");
}

function loadAll(given) {
  return Object.fromEntries(given.tensors.map(({ name }) => [name, load(given, name)]));
}

/** x 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): TensorFlow.js has no GELU of its own. */
function gelu(x) {
  const inner = tf.mul(Math.sqrt(2 / Math.PI), tf.add(x, tf.mul(0.044715, tf.mul(x, tf.square(x)))));
  return tf.mul(tf.mul(0.5, x), tf.add(1, tf.tanh(inner)));
}

function layerNorm(x, weight, bias, eps) {
  const { mean, variance } = tf.moments(x, -1, true);
  return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, eps))), weight), bias);
}

function forward(given, compute) {
  const inputs = loadAll(given);
  let y = null;
  return {
    run() {
      y?.dispose();
      y = tf.tidy(() => compute(inputs));
    },
    settle: () => settle([y]),
    figures: async () => someOf(await y.data()),
  };
}

/** y, and the gradients of `trained` for the gradient `dy` of y. */
function forwardAndBackward(given, trained, compute) {
  const inputs = loadAll(given);
  const wanting = trained.map((name) => inputs[name]);
  const gradients = tf.grads(compute);
  let found = [];
  return {
    run() {
      tf.dispose(found);
      found = tf.tidy(() => gradients(wanting, inputs.dy));
    },
    settle: () => settle(found),
    async figures() {
      const figures = someOf(await tf.tidy(() => compute(...wanting)).data());
      for (const gradient of found) figures.push(...someOf(await gradient.data()));
      return figures;
    },
  };
}

/** Rows of a table. The WebAssembly backend has no gradient of tf.gather: a product with ones and zeros has. */
function embedding(table, ids) {
  if (backend === "webgpu") return tf.gather(table, ids);
  const [B, T] = ids.shape;
  const [rows, C] = table.shape;
  return tf.reshape(tf.matMul(tf.oneHot(tf.reshape(ids, [-1]), rows).cast("float32"), table), [B, T, C]);
}

/** Mean cross-entropy of the encoder over all tokens. parameters: by name; ids, labels [B, T]. */
function lossOf(
  parameters,
  ids,
  labels,
  { layers, channels: C, heads, batch: B, tokens: T, vocabulary: V, eps },
) {
  const norm = (x, name) => layerNorm(x, parameters[`${name}.weight`], parameters[`${name}.bias`], eps);
  const dense = (x, name) => tf.add(tf.matMul(x, parameters[`${name}.weight`]), parameters[`${name}.bias`]);
  const split = (x) => tf.transpose(tf.reshape(x, [B, T, heads, C / heads]), [0, 2, 1, 3]); // [B, H, T, D]
  let x = tf.reshape(tf.add(embedding(parameters.words, ids), parameters.positions), [B * T, C]);
  for (let i = 0; i < layers; i++) {
    const [q, k, v] = tf.split(dense(norm(x, `${i}.norm1`), `${i}.qkv`), 3, -1).map(split);
    const scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(C / heads)); // [B, H, T, T]
    const attended = tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3]), [B * T, C]);
    x = tf.add(x, dense(attended, `${i}.proj`));
    const inner = gelu(dense(norm(x, `${i}.norm2`), `${i}.up`));
    x = tf.add(x, dense(inner, `${i}.down`));
  }
  const logits = tf.matMul(norm(x, "norm"), parameters.head); // [B T, V]
  return tf.losses.softmaxCrossEntropy(tf.oneHot(tf.reshape(labels, [-1]), V), logits);
}

async function step(given) {
  const { settings } = given;
  const { lr, weightDecay } = settings;
  const { ids, labels, ...values } = loadAll(given);
  const parameters = Object.fromEntries(
    Object.entries(values).map(([name, x]) => [name, tf.variable(x, true, name)]),
  );
  const optimiser = tf.train.adam(lr, 0.9, 0.999, 1e-8);
  let loss = null;
  return {
    ...(backend === "webgpu"
      ? {}
      : { note: "embeddings by a product with ones and zeros, for want of a gradient of tf.gather" }),
    run() {
      loss?.dispose();
      loss = tf.tidy(() => {
        const { value, grads } = tf.variableGrads(() => lossOf(parameters, ids, labels, settings));
        // AdamW is Adam with a decay of its own.
        for (const x of Object.values(parameters)) if (x.rank > 1) x.assign(tf.mul(x, 1 - lr * weightDecay));
        optimiser.applyGradients(grads);
        return value;
      });
    },
    settle: () => settle([loss, ...Object.values(parameters)]),
    figures: async () => [...(await loss.data())],
  };
}
