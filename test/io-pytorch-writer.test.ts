// Files for torch.load: read back by the reader here, and by PyTorch itself where it is installed.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { encodePytorch, type FloatTensor, readPytorch, toFloat32 } from "../src/io/index.ts";
import { scratchFolder } from "./cli-process.ts";
import { assertBitEqual } from "./compare.ts";
import { askPython, noTorch } from "./debian-torch.ts";
import { skipped } from "./skip.ts";

const test = suite("writing PyTorch files");
const folder = scratchFolder();

const SHAPES: Readonly<Record<string, readonly number[]>> = {
  "a.weight": [3, 5],
  "é.bias": [7],
  scalar: [],
  empty: [0, 4],
  deep: [2, 3, 4],
};
const tensors = new Map<string, FloatTensor>(
  Object.entries(SHAPES).map(([name, shape]) => {
    const size = shape.reduce((n, s) => n * s, 1);
    return [name, { shape, data: Stream.seed(2).fold(name).normal(size, 0, 1) }];
  }),
);
const bytes = encodePytorch(tensors);

test("the reader here gives names, shapes and bits back, and the same bytes come every time", () => {
  const source = { bytes: bytes.length, read: (at: number, n: number) => bytes.subarray(at, at + n) };
  const back = readPytorch(source);
  assert.equal([...back.keys()], [...tensors.keys()]);
  for (const [name, { shape, data }] of tensors) {
    const found = back.get(name);
    if (!found) throw new Error(name);
    assert.equal(found.shape, shape);
    assertBitEqual(toFloat32(found), data, name);
  }
  assertBitEqual(encodePytorch(tensors), bytes, "written again");
});

test("values that do not fill a shape are refused", () => {
  const wrong = { shape: [2, 2], data: new Float32Array(3) };
  assert.throws(() => encodePytorch([["w", wrong]]), /"w" \[2, 2\] has 3 values/);
});

const READ = `
import json, sys, torch
state = torch.load(sys.argv[1], weights_only=True)
print(json.dumps({n: [list(t.shape), t.double().flatten().tolist(), t.is_contiguous()] for n, t in state.items()}))`;

const withTorch = "torch.load(weights_only=True) reads the same";
if (noTorch) skipped(test, withTorch, noTorch);
else {
  test(withTorch, () => {
    const path = join(folder, "out.bin");
    writeFileSync(path, bytes);
    const read = askPython(READ, path) as Record<string, [number[], number[], boolean]>;
    assert.equal(Object.keys(read), [...tensors.keys()]);
    for (const [name, { shape, data }] of tensors) assert.equal(read[name], [shape, [...data], true], name);
  });
}

test.run();
