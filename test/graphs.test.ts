// Random graphs of 3 to 12 ops on the GPU against the float64 engine: every value, and the gradient of every leaf.
// A failure prints the smallest graph that still differs.
//
//     npm test -- graphs.test --seed 1234 --count 1      one graph again
import { suite } from "uvu";
import { bothKernels, gpu as openTestGpu } from "./device.ts";
import { compareSeeds } from "./graphs/run.ts";
import { options } from "./options.ts";

/** About half a minute on the slower software adapter. */
const COUNT = 1500;

await openTestGpu();
const { software, hardware } = await bothKernels();
const test = suite("random graphs");

test("values and gradients are those of the float64 engine", async () => {
  const { count = COUNT, seed = 0, seconds } = options;
  await compareSeeds({ devices: [software, software, software, hardware], seed, count, seconds });
});

test.run();
