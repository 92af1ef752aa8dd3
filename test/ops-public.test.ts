// The public functions that take tensors: each has a row, and the function does what its row's op does.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { apply, type Tensor } from "../src/autograd/index.ts";
import * as library from "../src/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";
import { table } from "./ops.table.ts";
import { composed } from "./ops-table/composed.ts";
import { plainTensor } from "./ops-table/evaluate.ts";
import type { Attributes, Row } from "./ops-table/row.ts";
import { attributesOf } from "./ops-table/subject.ts";

const gpu = await openTestGpu();
const root = fileURLToPath(new URL("../src/autograd/", import.meta.url));

/** Functions of tensors that compute nothing: where they are tested. */
const elsewhere: Readonly<Record<string, string>> = {
  apply: "ops.test.ts: every row goes through it",
  cacheWrite: "products.test.ts",
  grad: "autograd-grad.test.ts",
  onesLike: "create.test.ts",
  zerosLike: "create.test.ts",
};

const test = suite("public functions");

/** The parameter lists of exported functions and arrow functions of src/autograd, by name. */
function parameterLists(): Map<string, string> {
  const lists = new Map<string, string>();
  for (const name of readdirSync(root).filter((name) => name.endsWith(".ts"))) {
    const text = readFileSync(join(root, name), "utf8");
    for (const { 0: head, 1: fn, index } of text.matchAll(
      /^export (?:const (\w+) = |function (\w+))(?:<[^(]*>)?\(/gm,
    )) {
      const start = index + head.length;
      let depth = 1;
      let end = start;
      for (; depth > 0 && end < text.length; end++) {
        if (text[end] === "(") depth++;
        if (text[end] === ")") depth--;
      }
      lists.set(fn ?? /\w+(?=\W*$)/.exec(head)?.[0] ?? "", text.slice(start, end));
    }
  }
  return lists;
}

test("each one that takes a tensor has a row, of an op or of a composed function", () => {
  const lists = parameterLists();
  const exported = Object.entries(library).filter(([, value]) => typeof value === "function");
  const ofTensors = exported.map(([name]) => name).filter((name) => /\bTensor\b/.test(lists.get(name) ?? ""));
  assert.ok(ofTensors.length > 40, `only ${ofTensors.length} functions are seen`);
  for (const name of ["mse", "matmul", "concat", "layerNorm"]) assert.ok(ofTensors.includes(name), name);
  const known = new Set([
    ...table.map(({ op }) => op.name),
    ...composed.map(({ name }) => name.split(" ")[0]),
    ...Object.keys(elsewhere),
  ]);
  assert.equal(
    ofTensors.filter((name) => !known.has(name)),
    [],
  );
});

/** Calls a function by its row's own way, or with the inputs and then the attributes where there are any. */
function callPublic({ op, call }: Row, inputs: readonly (Tensor | null)[], attrs: Attributes): Tensor {
  if (call) return call(inputs, attrs);
  const fn: unknown = Reflect.get(library, op.name);
  if (typeof fn !== "function") throw new Error(`${op.name} is no public function`);
  return Object.keys(attrs).length > 0 ? fn(...inputs, attrs) : fn(...inputs);
}

for (const row of table) {
  if (!row.call && !(row.op.name in library)) continue;
  test(`${row.op.name} is the op of its name`, async () => {
    for (const c of row.cases.slice(0, 3)) {
      const attrs = attributesOf(gpu, c);
      const inputs = c.inputs.map((x) => x && plainTensor(gpu, x));
      const results = [callPublic(row, inputs, attrs), apply(row.op, inputs, attrs)] as const;
      assert.equal(results[0].shape, results[1].shape);
      assertBitEqual(await results[0].data(), await results[1].data(), `${row.op.name}, ${c.name}`);
      for (const tensor of [...inputs, ...results]) tensor?.dispose();
    }
  });
}

test.run();
