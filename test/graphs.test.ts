// Random graphs of 3 to 12 ops on the GPU against the float64 engine: every value, and the gradient of every leaf.
// A failure prints the smallest graph that still differs.
//
//     npm test -- graphs.test --seed 1234 --count 1      one graph again
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as ad from "../src/autograd/index.ts";
import { bothKernels } from "./device.ts";
import { graphsOf } from "./graphs/generate.ts";
import { compareSeeds, graphSubjects } from "./graphs/run.ts";
import { type Call, given } from "./ops-table/row.ts";
import { options } from "./options.ts";
import { summary } from "./summary.ts";

/** Some 16 ms of one core each. */
const COUNT = 1500;

const { software, hardware } = await bothKernels();
const devices = [software, software, software, hardware] as const;
const test = suite("random graphs");

test("values and gradients are those of the float64 engine", async () => {
  const { count = COUNT, seed = 0, seconds } = options;
  const { compared, tried, worst } = await compareSeeds({ devices, seed, count, seconds });
  console.log(`  random graphs: largest error ${worst.toFixed(3)} of what is allowed`);
  summary.graphs += compared;
  assert.ok(compared > 0.95 * tried, `only ${compared} of ${tried} could be compared`);
});

test("every op and composed function with a derivative is drawn", () => {
  const subjects = graphSubjects();
  const generate = graphsOf(software, subjects.values());
  const drawn = new Set<string>();
  for (let seed = 0; seed < COUNT; seed++) for (const { op } of generate(seed).steps) drawn.add(op);
  assert.equal(
    [...subjects.keys()].filter((name) => !drawn.has(name)),
    [],
  );
});

/** Ops that are a little wrong: each must be found, and be the only op of the smallest graph. */
const wrong: readonly { readonly name: string; readonly op: string; readonly run: Call }[] = [
  { name: "a value that is off by 1e-5", op: "div", run: ([a, b]) => given(a).div(given(b)).mul(1.00001) },
  { name: "gelu by tanh", op: "gelu", run: ([x]) => ad.geluTanh(given(x)) },
  {
    name: "a gradient that is off by 1e-4",
    op: "tanh",
    run: ([x]) => ad.tanh(given(x)).add(given(x).sub(given(x).detach()).mul(1e-4)),
  },
  {
    name: "a gradient that does not arrive",
    op: "matmul",
    run: ([a, b], attrs) => ad.matmul(given(a), given(b).detach(), attrs),
  },
  { name: "a tensor that is lost", op: "softmax", run: ([x]) => ad.softmax(given(x).add(0)) },
];

for (const { name, op, run } of wrong) {
  test(`finds ${name}`, async () => {
    const subjects = new Map(graphSubjects());
    const own = subjects.get(op);
    if (!own) throw new Error(`no row for ${op}`);
    // Only the lost tensor is lost.
    const kept: Call = (inputs, attrs) => ad.tidy(() => run(inputs, attrs));
    subjects.set(op, { ...own, run: op === "softmax" ? run : kept });
    let message = "";
    try {
      await compareSeeds({ subjects, devices: [software], seed: 0, count: 300 });
    } catch (error) {
      message = error instanceof Error ? error.message : String(error);
    }
    assert.match(message, /^graph of seed \d+: /);
    const ops = [...message.matchAll(/^ {4}v\d+ \[[^\]]*\] = (\w+) of /gm)].map(([, found]) => found);
    assert.equal(ops, [op], message);
  });
}

test.run();
