// Stochastic routing: which expert serves which rows, drawn, written down, and refused.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import {
  adamixAdapter,
  adamixLora,
  fixedRouter,
  givenRouter,
  type RouteRequest,
  type Router,
  RouteTable,
  uniformRouter,
} from "../src/peft/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { attachTo, modelFamilies, scramble } from "./peft.table.ts";

const gpu = await testGpu();
const [classification] = modelFamilies;
if (!classification) throw new Error("no model families");

const routing = suite("stochastic routing");
const M = 4;
const request = (part: Partial<RouteRequest>): RouteRequest => ({
  layer: 0,
  side: "down",
  experts: M,
  step: 0,
  pass: 0,
  group: 0,
  token: 0,
  ...part,
});

/** Σ (observed - expected)² / expected over equally likely outcomes. */
function chiSquare(outcomes: readonly number[], kinds: number): number {
  const counts = new Array<number>(kinds).fill(0);
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  const expected = outcomes.length / kinds;
  return counts.reduce((total, count) => total + (count - expected) ** 2 / expected, 0);
}

routing("uniform: each expert equally often, every two draws independent", () => {
  const router = uniformRouter(Stream.seed(42));
  const steps = Array.from({ length: 4000 }, (_, step) => step);
  const drawn = (part: Partial<RouteRequest>): number[] =>
    steps.map((step) => router(request({ step, ...part })));
  const here = drawn({});
  // Bounds that chance exceeds once in a thousand: 3 and 15 degrees of freedom.
  assert.ok(chiSquare(here, M) < 16.27, `chi-square ${chiSquare(here, M)}`);
  const others: readonly Partial<RouteRequest>[] = [
    { side: "up" },
    { layer: 1 },
    { pass: 1 },
    { group: 1 },
    { token: 1 },
    { token: 4 },
  ];
  for (const part of others) {
    const other = drawn(part);
    const pairs = chiSquare(
      here.map((j, i) => j * M + (other[i] ?? 0)),
      M * M,
    );
    assert.ok(pairs < 37.7, `${JSON.stringify(part)}: chi-square ${pairs}`);
  }
  const next = chiSquare(
    here.slice(1).map((j, i) => j * M + (here[i] ?? 0)),
    M * M,
  );
  assert.ok(next < 37.7, `one step to the next: chi-square ${next}`);
});

routing("uniform: a step drawn again is the same, in any order; another seed is another run", () => {
  const draws = (router: Router, order: readonly number[]): number[] =>
    order.map((step) => router(request({ step, layer: step % 3 }))).sort();
  const order = Array.from({ length: 50 }, (_, i) => i);
  const of = (seed: number): Router => uniformRouter(Stream.seed(seed));
  assert.equal(draws(of(1), order.toReversed()), draws(of(1), order));
  const list = (seed: number): number[] => order.map((step) => of(seed)(request({ step })));
  assert.equal(list(1), list(1));
  assert.not.equal(list(1), list(2));
});

routing("a table asks once for each layer, side, pass and group, and shows what it drew", async () => {
  const asked: RouteRequest[] = [];
  const router: Router = (r) => {
    asked.push(r);
    return (r.layer + r.pass + 2 * r.group + (r.side === "up" ? 1 : 0)) % r.experts;
  };
  // q and v of two layers: four sites.
  const routes = new RouteTable(gpu, [5, 5, 2, 2], { down: 3, up: 4 });
  routes.draw(router, { step: 9, passes: 2, groups: 3 });
  assert.is(asked.length, 2 * 2 * 2 * 3);
  assert.ok(asked.every(({ step }) => step === 9));
  // [layer][down, up][pass · 3 + group], layers in ascending order.
  const expected = [
    [
      [2, 1, 0, 0, 2, 1],
      [3, 1, 3, 0, 2, 0],
    ],
    [
      [2, 1, 0, 0, 2, 1],
      [2, 0, 2, 3, 1, 3],
    ],
  ];
  assert.equal(routes.last(), expected);
  for (const [i, layer] of [2, 5].entries())
    for (const [j, side] of (["down", "up"] as const).entries())
      assert.equal([...(await routes.of(layer, side).data())], expected[i]?.[j], `${side} of layer ${layer}`);
  routes.draw(router, { step: 10, passes: 1, firstPass: 1 });
  assert.equal(
    routes.last(),
    [
      [[0], [0]],
      [[0], [3]],
    ],
    "the second pass on its own",
  );
  assert.equal([...(await routes.of(5, "up").data())], [3]);
  routes.dispose();
});

routing("a shared side is not asked for", () => {
  const sides = new Set<string>();
  const routes = new RouteTable(gpu, [0], { down: 3, up: 1 });
  const router: Router = ({ side }) => {
    sides.add(side);
    return 2;
  };
  routes.draw(router, { step: 0, passes: 1 });
  assert.equal([...sides], ["down"]);
  assert.equal(routes.last(), [[[2], [0]]]);
});

routing("a route out of range is refused, and the last draw stays", () => {
  const routes = new RouteTable(gpu, [0, 1], { down: 3, up: 2 });
  assert.throws(() => routes.of(0, "down"), /router: no routes for layer 0; draw\(\) comes first/);
  routes.draw(fixedRouter(1), { step: 0, passes: 1 });
  const before = routes.last();
  for (const [expert, shown] of [
    [3, "3"],
    [-1, "-1"],
    [0.5, "0.5"],
    [Number.NaN, "NaN"],
  ] as const)
    assert.throws(
      () =>
        routes.draw(
          givenRouter([
            [
              [0, 0],
              [expert, 0],
            ],
          ]),
          { step: 0, passes: 1 },
        ),
      new RegExp(`router: expert ${shown} for layer 1, down; there are 3 \\(0\\.\\.2\\)`),
    );
  assert.throws(
    () =>
      routes.draw(
        givenRouter([
          [
            [0, 0],
            [0, 0],
          ],
        ]),
        { step: 0, passes: 2 },
      ),
    /router: no route given for pass 1, layer 0/,
  );
  assert.throws(() => routes.draw(fixedRouter(0), { step: 0, passes: 0 }), /router: 0 passes of 1 groups/);
  assert.throws(() => routes.of(2, "up"), /router: no routes for layer 2/);
  assert.equal(routes.last(), before);
});

routing("a model without a draw says so", () => {
  const model = classification.build();
  attachTo(model, adamixAdapter({ bottleneck: 2 }));
  assert.throws(() => model.forward(), /router: no routes for layer 0; draw\(\) comes first/);
});

routing("a draw for each example: its row is that of the whole batch through its expert", async () => {
  const model = classification.build();
  const set = scramble(attachTo(model, adamixLora({ rank: 2, experts: 3, share: "none" })));
  const logitsOf = async (router: Router, groups: number): Promise<Float32Array> => {
    set.routes.draw(router, { step: 0, passes: 1, groups });
    return (await model.forward().data()) as Float32Array;
  };
  const whole = await Promise.all([0, 1, 2].map((j) => logitsOf(fixedRouter(j), 1)));
  const mixed = await logitsOf(({ group }) => [2, 0, 1][group] ?? 0, 3);
  for (const [row, j] of [2, 0, 1].entries()) {
    const expected = (whole[j] as Float32Array).slice(3 * row, 3 * row + 3);
    assertBitEqual(mixed.slice(3 * row, 3 * row + 3), expected, `row ${row} through expert ${j}`);
  }
});

routing.run();
