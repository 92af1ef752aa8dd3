// 100,000 random graphs of ops against the float64 engine: about 50 minutes on lavapipe with two cores.
//
//     node --import tsx test/run.ts --full graphs.full --count 1000000 --seconds 36000     more, or as long as one likes
//     node --import tsx test/run.ts --full graphs.full --seed 123456 --count 1             one of them again
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bothKernels } from "../device.ts";
import { compareSeeds } from "../graphs/run.ts";
import { options } from "../options.ts";
import { summary } from "../summary.ts";

const COUNT = 100_000;
/** Far from the seeds of graphs.test.ts. */
const FIRST = 1_000_000;

const { software, hardware } = await bothKernels();
const test = suite("random graphs, many");

test("values and gradients are those of the float64 engine", async () => {
  const { count = COUNT, seed = FIRST, seconds } = options;
  const devices = [software, software, software, hardware] as const;
  const { compared, tried, worst } = await compareSeeds({ devices, seed, count, seconds });
  console.log(`  ${compared} random graphs: largest error ${worst.toFixed(3)} of what is allowed`);
  summary.graphs += compared;
  assert.ok(compared > 0.95 * tried, `only ${compared} of ${tried} could be compared`);
});

test.run();
