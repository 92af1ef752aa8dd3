import { suite } from "uvu";
import * as assert from "uvu/assert";
import { assertBitEqual, assertClose, ulps } from "./compare.ts";
import { withinFixture } from "./fixtures.ts";

const comparing = suite("compare");

comparing("ulps count f32 steps across 0, and NaN equals NaN only", () => {
  assert.is(ulps(1, 1 + 2 ** -23), 1);
  assert.is(ulps(2 ** -149, -(2 ** -149)), 2);
  assert.is(ulps(-0, 0), 0);
  assert.is(ulps(Number.NaN, Number.NaN), 0);
  assert.is(ulps(Number.NaN, 1), Infinity);
});

comparing("the message names the largest error, its index and both values", () => {
  const run = () => assertClose([1, 2.5, 3], [1, 2, 2.9], { atol: 1e-3, name: "y" });
  assert.throws(run, /^y: 2 of 3 values differ; max error 0\.5 at \[1\]: 2\.5, expected 2 /);
  assert.throws(
    () => assertClose([Number.NaN], [0], { atol: 1e9 }),
    /max error Infinity at \[0\]: NaN, expected 0/,
  );
  assert.throws(() => assertClose([1], [Infinity], { rtol: 1 }), /expected Infinity/);
  assert.throws(() => assertClose([-Infinity], [Infinity], { rtol: 1 }), /-Infinity, expected Infinity/);
  assert.throws(() => assertClose([1], [1, 2]), /1 values, expected 2/);
  assertClose([Number.NaN, Infinity, -0], [Number.NaN, Infinity, 0]);
});

comparing("the fixture rule bounds the error by the tensor's largest value", () => {
  withinFixture([100, 0.0004], [100, 0], 0);
  assert.throws(
    () => withinFixture([100, 0.0006], [100, 0], 0),
    /at \[1\]: 0\.0006, expected 0; bound 0\.000005/,
  );
  withinFixture([100, 0.009], [100, 0], 1);
  assert.throws(() => withinFixture([0.0000011], [0.000001], Number.NaN), /bound NaN/);
  assert.throws(
    () => withinFixture([Number.NaN, 1], [1, 1], 1),
    /max error Infinity .* at \[0\]: NaN, expected 1/,
  );
});

comparing("bit equality tells -0 from 0 and one NaN from another", () => {
  assertBitEqual(new Float32Array([1, Number.NaN]), new Float32Array([1, Number.NaN]));
  assert.throws(
    () => assertBitEqual(new Float32Array([1, -0]), new Float32Array([1, 0]), "w"),
    /^w: bits differ first at \[1\]: 0 \(0x80000000\), expected 0 \(0x00000000\)/,
  );
  const quiet = new Float32Array(new Uint32Array([0x7fc00000]).buffer);
  const other = new Float32Array(new Uint32Array([0x7fc00001]).buffer);
  assert.throws(() => assertBitEqual(quiet, other), /0x7fc00000\), expected NaN \(0x7fc00001/);
  assert.throws(() => assertBitEqual(new Uint8Array(3), new Uint8Array(4)), /3 bytes, expected 4/);
});

comparing.run();
