// The studies of bench/studies run, in a tiny setting.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CONTESTANTS, compareRouters, studyTable } from "../bench/studies/routers.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const test = suite("studies");

test("every router is run and has its row", async () => {
  const runs = await compareRouters(gpu, { seeds: [0], steps: 2, split: "dev", limit: 12 });
  assert.is(runs.length, CONTESTANTS.length);
  const of = (name: string) => runs.find((run) => run.name === name);
  // 3 layers, q and v, d 64, rank 8: A of 4 experts and one B, or one A; gates of 4 x 64.
  assert.equal([of("LoRA")?.trained, of("LoRA")?.passes], [6 * 1024, 2]);
  const drawn = of("AdaMix, route of the batch");
  assert.equal([drawn?.trained, drawn?.deployed, drawn?.passes], [6 * 2560, 6 * 1024, 4]);
  const soft = of("soft router");
  assert.equal([soft?.trained, soft?.deployed, soft?.passes], [6 * 2816, 6 * 2816, 2]);
  const lines = studyTable(runs).split("\n");
  assert.is(lines.length, CONTESTANTS.length + 1);
  for (const [i, { name }] of CONTESTANTS.entries()) assert.ok(lines[i + 1]?.startsWith(name));
  assert.match(lines[1] ?? "", /\d\.\d{3} ± 0\.000/);
});

test.run();
