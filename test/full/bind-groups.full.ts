// Ever new combinations of buffers: their bind groups go back to the driver in time. lavapipe maps a page for each,
// and the kernel allows a process 65,530 maps; beyond, the driver writes to address -1. About ten seconds on lavapipe.
import { existsSync, readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { tensor } from "../../src/autograd/index.ts";
import { gpu as openTestGpu } from "../device.ts";
import { progress } from "../progress.ts";

const TENSORS = 500;
const ROUNDS = 400;
const MOST_MAPS = 50_000;
const MAPS = "/proc/self/maps";

const gpu = await openTestGpu();
const test = suite("bind groups");

test("200,000 of them leave no more maps than a process may have", async () => {
  const tensors = Array.from({ length: TENSORS }, (_, i) => tensor(gpu, [i, 1, 2, 3]));
  const told = progress("rounds of bind groups", ROUNDS);
  let most = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, a] of tensors.entries()) a.add(tensors[(i + round + 1) % TENSORS] ?? a).dispose();
    await gpu.device.recorder.throttle();
    const maps = existsSync(MAPS) ? readFileSync(MAPS, "utf8").split("\n").length : 0;
    most = Math.max(most, maps);
    told(round + 1, `${maps} maps`);
  }
  assert.ok(most < MOST_MAPS, `${most} maps`);
  for (const x of tensors) x.dispose();
});

test.run();
