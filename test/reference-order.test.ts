// References of steps, order and running sums: values worked out on paper, where the fixtures have none.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as R from "./reference/index.ts";

const test = suite("reference order");
const data = ({ data }: { data: ArrayLike<number> }) => Array.from(data);
const NOT = Number.NaN;

test("steps: halves go to the even number, and the sign of 0 does not matter", () => {
  const x = R.ref([8], [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.6, -2.4]);
  assert.equal(data(R.map(R.round(x), (v) => v + 0)), [-2, -2, 0, 0, 2, 2, 3, -2]);
  assert.equal(data(R.trunc(R.ref([2], [-2.7, 2.7]))), [-2, 2]);
  assert.equal(data(R.sign(R.ref([3], [-3, 0, 0.1]))), [-1, 0, 1]);
  assert.equal(data(R.leakyRelu(R.ref([2], [-2, 3]), 0.5)), [-1, 3]);
  assert.equal(data(R.elu(R.ref([2], [-Infinity, 3]), 2)), [-2, 3]);
});

test("comparisons: NaN is unequal to itself and neither above nor below anything", () => {
  const [a, b] = [R.ref([4, 1], [1, 2, NOT, -0]), R.ref([3], [2, NOT, 0])];
  assert.equal(data(R.eq(a, b)), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
  assert.equal(data(R.ne(a, b)), [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0]);
  assert.equal(data(R.le(a, b)), [1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1]);
  assert.equal(data(R.gt(a, b)), [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
});

test("argmax and argmin take the first of equals, and NaN before all", () => {
  const x = R.ref([4, 3], [1, 3, 3, -1, -5, -5, 2, NOT, NOT, 0, -0, 0]);
  assert.equal(data(R.argmax(x)), [1, 0, 1, 0]);
  assert.equal(data(R.argmin(x)), [0, 1, 1, 0]);
  assert.equal(data(R.argmax(x, { dim: 0 })), [2, 2, 2]);
  assert.equal(data(R.min(x, { dims: [1] })), [1, -5, NOT, -0]);
});

test("order is stable both ways, with NaN as the largest and -0 equal to 0", () => {
  const x = R.ref([6], [2, NOT, 0, 2, -0, -Infinity]);
  assert.equal(data(R.argsort(x)), [5, 2, 4, 0, 3, 1]);
  assert.equal(data(R.argsort(x, { descending: true })), [1, 0, 3, 2, 4, 5]);
  assert.equal(data(R.topK(x, 3)), [1, 0, 3]);
  assert.equal(data(R.topK(x, 2, { largest: false })), [5, 2]);
  const columns = R.topK(R.ref([3, 2], [1, 6, 5, 2, 3, 4]), 2, { dim: 0 });
  assert.equal(
    [columns.shape, data(columns)],
    [
      [2, 2],
      [1, 0, 2, 2],
    ],
  );
  assert.equal(R.topK(R.ref([0, 4]), 2).shape, [0, 2]);
});

test("running sums, without the element itself, and from the end", () => {
  const x = R.ref([2, 3], [1, 2, 3, 4, 5, 6]);
  assert.equal(data(R.cumsum(x, 1)), [1, 3, 6, 4, 9, 15]);
  assert.equal(data(R.cumsum(x, 0)), [1, 2, 3, 5, 7, 9]);
  assert.equal(data(R.cumsum(x, 1, { exclusive: true })), [0, 1, 3, 0, 4, 9]);
  assert.equal(data(R.cumsum(x, 1, { reverse: true })), [6, 5, 3, 15, 11, 6]);
  assert.equal(data(R.cumsum(x, 1, { exclusive: true, reverse: true })), [5, 3, 0, 11, 6, 0]);
});

test("the norm over some dimensions", () => {
  assert.equal(data(R.l2Norm(R.ref([2, 2], [3, 4, 6, 8]), { dims: [1] })), [5, 10]);
});

test.run();
