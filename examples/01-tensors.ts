// Tensors, gradients, and when memory goes back.
//
//     npm run build && node --import tsx examples/01-tensors.ts
import { matmul, noGrad, openGpu, relu, tensor, tidy } from "adamix";

const gpu = await openGpu(); // ADAMIX_DEVICE chooses; the default is the fastest adapter found

// Calling an op checks shapes and records a command. Nothing waits; reading is the only `await`.
const x = tensor(gpu, [1, 2, 3, 4, 5, 6], [2, 3]);
const w = tensor(gpu, [1, 0, -1, 0.5, 2, 2], [3, 2]);
const y = x.matmul(w);
console.log("x w", y.shape, [...(await y.data())]);

// Gradients: a tensor asks for one, and a scalar goes backward. y = relu(x w), loss = Σ y².
w.requiresGrad = true;
const loss = tidy(() => {
  const hidden = relu(matmul(x, w));
  return hidden.mul(hidden).sum();
});
loss.backward(); // frees the graph: first derivatives, once
console.log("loss", await loss.item());
if (w.grad) console.log("dloss/dw", w.grad.shape, [...(await w.grad.data())]);

// Views share memory: a transposition and a slice copy nothing.
const column = x.transpose(0, 1).slice(0, 1, 2);
console.log("second column of x", column.shape, [...(await column.data())]);

// A wrong shape is refused by the call itself, with both shapes in the message.
try {
  x.matmul(x);
} catch (error) {
  console.log((error as Error).message);
}

// tidy() frees what was made inside, but for what it returns. The pool keeps count.
const live = (): number => gpu.device.statistics().liveBytes;
const before = live();
const mean = noGrad(() => tidy(() => x.mul(2).add(1).mean()));
const during = live();
console.log("mean", await mean.item(), "bytes kept", during - before);
mean.dispose();
console.log("bytes after dispose", live() - before);

await gpu.device.close();

// Prints:
// x w [ 2, 2 ] [ 5, 7, 11, 14.5 ]
// loss 405.25
// dloss/dw [ 3, 2 ] [ 98, 130, 130, 173, 162, 216 ]
// second column of x [ 1, 2 ] [ 2, 5 ]
// matmul: inner sizes differ, [2, 3] x [2, 3] (3 vs 2)
// mean 8 bytes kept 256
// bytes after dispose 0
