// Many tasks on one classifier: switching, stacking, and batches whose rows belong to different tasks.
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Tensor } from "../src/autograd/index.ts";
import { readAdapterFile } from "../src/formats/index.ts";
import type { EncoderInput, SequenceClassifier } from "../src/models/index.ts";
import { adapter, fixedRouter, lora, type PeftMethod } from "../src/peft/index.ts";
import { Adapters, loadAdapter, predictRows, saveAdapter } from "../src/train/index.ts";
import { scratchFolder } from "./cli-process.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { attached, buildClassifier } from "./format-models.ts";

const gpu = await testGpu();
const folder = scratchFolder();
type Values = Float32Array<ArrayBuffer>;

interface Task {
  readonly path: string;
  readonly labels: number;
  /** Logits of the three texts in a model that holds nothing else. */
  readonly alone: Values;
}

const METHODS: Readonly<Record<string, readonly [method: PeftMethod | null, labels: number]>> = {
  lora: [lora({ rank: 2, alpha: 3 }), 3],
  "lora of other rank, factor and sites": [lora({ rank: 5, alpha: 2, targets: ["query", "key"] }), 2],
  adapter: [adapter({ bottleneck: 4 }), 2],
  "adapter of other size, first layer": [adapter({ bottleneck: 3, targets: ["layer.0.output"] }), 4],
  "Houlsby's": [
    adapter({ bottleneck: 3, activation: "silu", targets: ["attention.output", "layer.*.output"] }),
    3,
  ],
  "head alone": [null, 3],
};

async function valuesOf(x: Tensor): Promise<Values> {
  const values = (await x.data()) as Values; // logits are f32
  x.dispose();
  return values;
}

async function trained(
  family: "bert" | "roberta",
  method: PeftMethod | null,
  labels: number,
  i: number,
): Promise<Task> {
  const { model, input } = buildClassifier(family, { labels, seed: 3 });
  const head = [...model.head.namedParameters()];
  for (const [, parameter] of head) {
    const values = (await parameter.data()) as Values;
    parameter.write(values.map((value, j) => value + Math.sin(i + j) / 4) as Values);
  }
  const set = method && attached({ model, logits: async () => new Float32Array() }, method, 20 + i);
  const path = join(folder, `${family}-${i}`);
  const names = Array.from({ length: labels }, (_, j) => `class ${j}`);
  await saveAdapter(path, model, set, { base: "b", labels: names });
  const alone = await valuesOf(model.forward(input));
  set?.dispose();
  model.dispose();
  return { path, labels, alone };
}

for (const family of ["roberta", "bert"] as const) {
  const test = suite(`adapters by name, ${family}`);
  const tasks = new Map<string, Task>();
  let model: SequenceClassifier;
  let input: EncoderInput;
  let base: Values;

  test.before(async () => {
    for (const [i, [name, [method, labels]]] of Object.entries(METHODS).entries())
      tasks.set(name, await trained(family, method, labels, i));
    ({ model, input } = buildClassifier(family));
    base = await valuesOf(model.forward(input));
  });
  test.after(() => model.dispose());

  const loaded = (): Adapters => {
    const adapters = new Adapters(gpu, model);
    for (const [name, { path }] of tasks) adapters.load(name, path);
    return adapters;
  };

  test("each one active gives the bits that it gives alone, its head too; none gives the base", async () => {
    const adapters = loaded();
    for (const [name, { alone }] of tasks) {
      adapters.activate(name);
      assert.equal(adapters.active, [name]);
      assertBitEqual(await valuesOf(adapters.forward(input)), alone, name);
    }
    assertBitEqual(await valuesOf(adapters.activate().forward(input)), base, "base");
    adapters.dispose();
  });

  test("rows of different tasks in one pass: each has the logits of its own adapter alone", async () => {
    const adapters = loaded();
    const names = [...tasks.keys()];
    const batches: (string | null)[][] = [
      ...names.map((_, i) => [0, 1, 2].map((j) => names[(i + 2 * j) % names.length] ?? null)),
      ["lora", null, "lora"],
      [null, null, null],
    ];
    adapters.activate("adapter"); // what is active does not matter, and stays
    for (const rows of batches) {
      const seen: number[] = [];
      for (const { name, rows: own, logits } of adapters.forwardRows(input, rows)) {
        const task = name === null ? { alone: base, labels: 3 } : (tasks.get(name) as Task);
        assert.equal(logits.shape, [own.length, task.labels]);
        const values = await valuesOf(logits);
        for (const [i, row] of own.entries()) {
          assert.is(rows[row], name);
          seen.push(row);
          const part = (x: Values, at: number): Values => x.slice(at * task.labels, (at + 1) * task.labels);
          assertClose(part(values, i), part(task.alone, row), {
            atol: 3e-6,
            rtol: 1e-5,
            name: `${name}, row ${row}`,
          });
        }
      }
      assert.equal(seen.sort(), [0, 1, 2]);
    }
    assertBitEqual(
      await valuesOf(adapters.forward(input)),
      tasks.get("adapter")?.alone ?? base,
      "what was active",
    );
    adapters.dispose();
  });

  test("predictRows: examples of several lengths and tasks in shared batches, in their order", async () => {
    const adapters = loaded();
    const names = [...tasks.keys(), null];
    const examples = names.map((_, i) => ({
      ids: Int32Array.from({ length: 2 + (i % 4) }, (_, t) => 3 + ((5 * i + t) % 16)),
    }));
    const mixed = await predictRows(gpu, adapters, examples, names, { batchSize: 4 });
    for (const [i, name] of names.entries()) {
      const one = examples.slice(i, i + 1);
      const [alone] = await predictRows(gpu, adapters, one, [name]);
      assertClose(mixed[i] ?? [], alone ?? [], { atol: 3e-6, rtol: 1e-5, name: String(name) });
      assert.is(mixed[i]?.length, tasks.get(name ?? "")?.labels ?? 3);
    }
    const refused = await predictRows(gpu, adapters, examples, []).catch((error: Error) => error.message);
    assert.is(refused, "predictRows: 0 names for 7 examples; give one for each");
    adapters.dispose();
  });

  test("stacked ones act in their order, the last head decides", async () => {
    const adapters = loaded();
    const [first, last] = ["adapter", "Houlsby's"];
    const stacked = await valuesOf(adapters.activate(first, last).forward(input));
    const other = buildClassifier(family, { labels: 3 });
    const sets = [
      loadAdapterBody(other.model, first),
      loadAdapter(gpu, other.model, tasks.get(last)?.path ?? ""),
    ];
    assertBitEqual(stacked, await valuesOf(other.model.forward(other.input)), "stacked");
    for (const set of sets) set?.dispose();
    other.model.dispose();
    adapters.dispose();
  });

  /** A set of its own name, without its head, on a model with other classes. */
  function loadAdapterBody(on: SequenceClassifier, name: string): { dispose(): void } {
    const file = readAdapterFile(tasks.get(name)?.path ?? "");
    const tensors = new Map([...file.tensors].filter(([key]) => !key.startsWith("classifier.")));
    const one = new Adapters(gpu, on);
    one.load(name, { config: { ...file.config, labels: [] }, tensors }).activate(name);
    return one;
  }

  test("memory is told, and comes back with unload", async () => {
    const run = async (adapters: Adapters): Promise<void> => {
      for (const { logits } of adapters.forwardRows(input, ["lora", "adapter", null])) await valuesOf(logits);
    };
    const first = loaded();
    await run(first);
    first.dispose();
    const before = liveBytes(gpu);
    const adapters = loaded();
    await run(adapters);
    const { tasks: told, baseBytes, stackBytes } = adapters.memory();
    const of = (name: string) => told.find((task) => task.name === name);
    // 2 layers, q and v: A [2, 12] and B [12, 2] each.
    assert.equal(of("lora")?.adapterBytes, 4 * 2 * 2 * (24 + 24));
    assert.is(of("head alone")?.adapterBytes, 0);
    assert.is(of("head alone")?.headBytes, of("lora")?.headBytes);
    assert.ok(baseBytes > 0 && stackBytes > (of("lora")?.adapterBytes ?? 0));
    adapters.unload("lora");
    assert.throws(() => adapters.activate("lora"), /"lora" is not loaded; there are lora of other rank/);
    assert.is(adapters.memory().stackBytes, 0);
    adapters.dispose();
    assert.is(liveBytes(gpu), before);
  });

  test("what cannot be is refused: names, rows, mixtures, other models", async () => {
    const adapters = loaded();
    assert.throws(() => adapters.load("lora", tasks.get("lora")?.path ?? ""), /"lora" is loaded already/);
    assert.throws(() => adapters.forwardRows(input, ["lora"]), /1 names for a batch of 3 rows/);
    assert.throws(() => adapters.forwardRows(input, ["lora", "none", null]), /"none" is not loaded/);
    const mixture = buildClassifier(family);
    const set = attached(
      { model: mixture.model, logits: async () => new Float32Array() },
      lora({ rank: 2, experts: 2 }),
    );
    set.routes.draw(fixedRouter(0), { step: 0, passes: 1 });
    const path = join(folder, `${family}-mixture`);
    await saveAdapter(path, mixture.model, set, { base: "b", labels: ["a", "b", "c"] });
    assert.throws(() => adapters.load("mixture", path), /"mixture" holds 2 experts; load one that is merged/);
    const wide = buildClassifier(family, { overrides: { hidden_size: 8 } });
    const before = liveBytes(gpu);
    assert.throws(
      () => new Adapters(gpu, wide.model).load("x", tasks.get("lora")?.path ?? ""),
      /of other shape/,
    );
    assert.is(liveBytes(gpu), before);
    for (const part of [set, mixture.model, wide.model, adapters]) part.dispose();
  });

  test.run();
}
