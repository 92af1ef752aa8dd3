import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bfloat16ToFloat32, float32ToBfloat16, float32ToHalf, halfToFloat32 } from "../src/array/index.ts";
import { FormatError } from "../src/io/format-error.ts";
import { decodeSafetensors, encodeSafetensors, toFloat32, toInt32 } from "../src/io/index.ts";
import type { SafetensorsDtype, TensorData } from "../src/io/safetensors.ts";
import { assertBitEqual } from "./compare.ts";
import { fixtureFolder, fixtureNames, loadFixture } from "./fixtures.ts";

/** A file from a header as text and its data, by the layout's rules, without padding. */
function file(header: string, data: ArrayLike<number> = [], headerBytes?: number): Uint8Array {
  const text = new TextEncoder().encode(header);
  const out = new Uint8Array(8 + text.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(headerBytes ?? text.length), true);
  out.set(text, 8);
  out.set(Array.from(data), 8 + text.length);
  return out;
}

function tensor(bytes: Uint8Array, name: string) {
  const found = decodeSafetensors(bytes).tensors.get(name);
  if (!found) throw new Error(`no tensor ${name}`);
  return found;
}

const refuses = (run: () => unknown, message: RegExp) =>
  assert.throws(run, (error: unknown) => {
    assert.instance(error, FormatError);
    const text = error instanceof FormatError ? error.message : "";
    assert.match(text, message);
    assert.not.match(text, /\n/);
    return true;
  });

const layout = suite("safetensors layout");

layout("a file is byte for byte what Python's writer lays out", () => {
  const header =
    '{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},' +
    '"10":{"dtype":"I64","shape":[],"data_offsets":[8,16]},"é":{"dtype":"U8","shape":[1,3],"data_offsets":[16,19]}}';
  const padded = header.padEnd(header.length + ((8 - (new TextEncoder().encode(header).length % 8)) % 8));
  const data = [0, 0, 128, 63, 0, 0, 32, 192, 254, 255, 255, 255, 255, 255, 255, 255, 7, 8, 9];
  const encoded = encodeSafetensors(
    [
      ["b", { dtype: "F32", shape: [2], data: new Float32Array([1, -2.5]) }],
      ["10", { dtype: "I64", shape: [], data: new BigInt64Array([-2n]) }],
      ["é", { dtype: "U8", shape: [1, 3], data: new Uint8Array([7, 8, 9]) }],
    ],
    { format: "pt" },
  );
  assertBitEqual(encoded, file(padded, data));
});

layout("a file that Python's safetensors 0.8.0 wrote from numpy arrays is written again to the byte", () => {
  const header =
    '{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},' +
    '"c":{"dtype":"F32","shape":[],"data_offsets":[24,28]},"a":{"dtype":"F16","shape":[3],"data_offsets":[28,34]},' +
    '"é":{"dtype":"U8","shape":[0,2],"data_offsets":[34,34]}}  ';
  const data = "0000803f0000004000004040000080400000a0400000c0400000e040003c0040662e";
  const encoded = encodeSafetensors(
    [
      ["b", { dtype: "F32", shape: [2, 3], data: new Float32Array([1, 2, 3, 4, 5, 6]) }],
      ["c", { dtype: "F32", shape: [], data: new Float32Array([7]) }],
      ["a", { dtype: "F16", shape: [3], data: new Float32Array([1, 2, 0.1]) }],
      ["é", { dtype: "U8", shape: [0, 2], data: new Uint8Array(0) }],
    ],
    { format: "pt" },
  );
  assertBitEqual(encoded, file(header, Buffer.from(data, "hex")));
});

layout("every fixture decodes and encodes to the bytes it was read from", () => {
  for (const name of fixtureNames()) {
    const bytes = readFileSync(join(fixtureFolder(), `${name}.safetensors`));
    const { tensors, metadata } = decodeSafetensors(bytes);
    const again = [...tensors].map(
      ([key, { dtype, shape, bytes: data }]) => [key, { dtype, shape, data }] as const,
    );
    assertBitEqual(encodeSafetensors(again, metadata), bytes, name);
  }
});

layout("no tensors and no metadata make a file of an empty object", () => {
  const encoded = encodeSafetensors([]);
  assertBitEqual(encoded, file("{}      "));
  assert.equal(decodeSafetensors(encoded), { tensors: new Map(), metadata: {} });
});

layout("tensors are views in the order of their data, whatever the order of the header", () => {
  const bytes = file(
    '{"z":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"7":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},' +
      '"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}  ',
    [255, 4, 5],
  );
  const { tensors } = decodeSafetensors(bytes);
  assert.equal([...tensors.keys()], ["7", "a", "z"]);
  assert.is(tensors.get("z")?.bytes.buffer, bytes.buffer);
  assert.equal(toInt32(tensor(bytes, "a")), new Int32Array([-1]));
});

layout.run();

const values = suite("safetensors values");

const samples: [SafetensorsDtype, TensorData, number[]][] = [
  ["F32", new Float32Array([1.5, -0, Number.NaN]), [1.5, -0, Number.NaN]],
  ["F64", new Float64Array([0.1, -2]), [Math.fround(0.1), -2]],
  ["F16", new Float32Array([65504, 2 ** -24, -0.1]), [65504, 2 ** -24, -0.0999755859375]],
  ["BF16", new Float32Array([1, 3.140625, -(2 ** -133)]), [1, 3.140625, -(2 ** -133)]],
  ["I64", new BigInt64Array([-(2n ** 31n), 2n ** 31n - 1n]), [-(2 ** 31), 2 ** 31 - 1]],
  ["I32", new Int32Array([-5, 6]), [-5, 6]],
  ["U32", new Uint32Array([0, 2 ** 31 - 1]), [0, 2 ** 31 - 1]],
  ["I16", new Int16Array([-32768, 7]), [-32768, 7]],
  ["U16", new Uint16Array([65535, 7]), [65535, 7]],
  ["I8", new Int8Array([-128, 127]), [-128, 127]],
  ["U8", new Uint8Array([255, 0]), [255, 0]],
  ["BOOL", new Uint8Array([1, 0, 1]), [1, 0, 1]],
];

for (const [dtype, data, expected] of samples) {
  values(`${dtype} comes back, aligned or not`, () => {
    const isFloat = dtype.includes("F");
    for (const front of [0, 1, 3]) {
      const padding = { dtype: "U8", shape: [front], data: new Uint8Array(front) } as const;
      const bytes = encodeSafetensors([
        ["front", padding],
        ["x", { dtype, shape: [data.length, 1], data }],
      ]);
      const x = tensor(bytes, "x");
      assert.equal(x.shape, [data.length, 1]);
      if (isFloat) assertBitEqual(toFloat32(x), new Float32Array(expected), dtype);
      else assertBitEqual(toInt32(x), new Int32Array(expected), dtype);
      refuses(() => (isFloat ? toInt32(x) : toFloat32(x)), new RegExp(`${dtype} \\[\\d+, 1\\]`));
    }
  });
}

values("F32 and I32 are views of the file where they are aligned", () => {
  const bytes = encodeSafetensors([
    ["f", { dtype: "F32", shape: [2], data: new Float32Array(2) }],
    ["i", { dtype: "I32", shape: [2], data: new Int32Array(2) }],
  ]);
  assert.is(toFloat32(tensor(bytes, "f")).buffer, bytes.buffer);
  assert.is(toInt32(tensor(bytes, "i")).buffer, bytes.buffer);
});

values("integers that do not fit 32 bits are refused with their value", () => {
  const wide = encodeSafetensors([["x", { dtype: "I64", shape: [1], data: new BigInt64Array([2n ** 31n]) }]]);
  refuses(() => toInt32(tensor(wide, "x")), /I64 value 2147483648 at \[0\]/);
  const unsigned = encodeSafetensors([
    ["x", { dtype: "U32", shape: [1], data: new Uint32Array([2 ** 32 - 1]) }],
  ]);
  refuses(() => toInt32(tensor(unsigned, "x")), /U32 value 4294967295/);
});

values("halves agree with the golden bits, both ways", () => {
  const golden = loadFixture("float16");
  const inputs = golden.floats("f32").data;
  const bits = golden.ints("f16_bits").data;
  const fits = (value: number | undefined) => !(Math.abs(value ?? 0) > 65504) || !Number.isFinite(value);
  assertBitEqual(float32ToHalf(inputs.filter(fits)), new Uint16Array(bits.filter((_, i) => fits(inputs[i]))));
  assertBitEqual(halfToFloat32(new Uint16Array(bits)), golden.floats("back").data);
});

values("a finite value beyond the largest half is refused, an infinite one is kept", () => {
  const write = (value: number) =>
    encodeSafetensors([["layer.0.w", { dtype: "F16", shape: [2], data: new Float32Array([1, value]) }]]);
  refuses(() => write(65519), /"layer\.0\.w" .*65519 at \[1\]/);
  refuses(() => write(-1e6), /-1000000/);
  const kept = toFloat32(tensor(write(Number.NEGATIVE_INFINITY), "layer.0.w"));
  assert.is(kept[1], Number.NEGATIVE_INFINITY);
});

values("bfloat16 rounds to nearest even and keeps NaN and infinities", () => {
  const inputs = [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, 3.4e38, Number.NaN, -1 / 0, -0];
  const expected = [1, 1 + 2 ** -6, 1 + 2 ** -7, 1 / 0, Number.NaN, -1 / 0, -0];
  const back = bfloat16ToFloat32(float32ToBfloat16(new Float32Array(inputs)));
  assert.equal([...back], expected);
});

values.run();

const malformed = suite("malformed safetensors");
const one = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
const info = (dtype: unknown, shape: unknown, offsets: unknown) =>
  `{"x":${JSON.stringify({ dtype, shape, data_offsets: offsets })}}`;

const cases: [name: string, bytes: Uint8Array, message: RegExp][] = [
  ["an empty file", new Uint8Array(0), /truncated, 0 bytes/],
  ["a file shorter than its header length", new Uint8Array(7), /truncated, 7 bytes/],
  ["a header cut off", file("{}", [], 3), /truncated, the header ends at byte 11 of a file of 10/],
  ["a header beyond the limit", file("{}", [], 100_000_001), /100000001 bytes is too long/],
  ["a header length beyond 2^53", file("{}", [], 2 ** 60), /too long/],
  ["an empty header", file(""), /must start with "{", found nothing/],
  ["a header that starts with a space", file(" {}"), /found byte 0x20/],
  ["a header that is an array", file("[]"), /found byte 0x5b/],
  ["a header that is not JSON", file("{'x':1}"), /not valid JSON/],
  ["a header cut inside", file('{"x":'), /not valid JSON/],
  ["a header with padding that is not white", file("{}\0"), /not valid JSON/],
  ["a header that is not UTF-8", file("{}", [0xff], 3), /not valid JSON/],
  ["a tensor named twice", file(`{"x":${one},"x":${one}}`, [0, 0, 0, 0]), /"x" occurs twice/],
  [
    "a tensor named twice in other letters",
    file(`{"x":${one},"\\u0078":${one}}`, [0, 0, 0, 0]),
    /"x" occurs twice/,
  ],
  ["metadata with a key twice", file('{"__metadata__":{"a":"1","a":"2"}}'), /"a" occurs twice/],
  ["metadata that is not an object", file('{"__metadata__":[]}'), /__metadata__ is not an object/],
  ["metadata that is not text", file('{"__metadata__":{"a":1}}'), /metadata "a" is 1/],
  ["an entry that is not an object", file('{"x":[1]}'), /entry of "x"/],
  ["an unknown dtype", file(info("F8", [1], [0, 1]), [0]), /unknown dtype "F8"/],
  ["a dtype of the language", file(info("toString", [1], [0, 1]), [0]), /unknown dtype "toString"/],
  ["no dtype", file('{"x":{"shape":[1],"data_offsets":[0,1]}}', [0]), /unknown dtype undefined/],
  ["a negative size", file(info("U8", [-1], [0, 1]), [0]), /shape \[-1\]/],
  ["a fractional size", file(info("U8", [0.5], [0, 1]), [0]), /shape \[0.5\]/],
  ["a size that is text", file(info("U8", ["1"], [0, 1]), [0]), /shape \["1"\]/],
  ["no shape", file('{"x":{"dtype":"U8","data_offsets":[0,1]}}', [0]), /shape undefined/],
  ["three offsets", file(info("U8", [1], [0, 1, 2]), [0]), /data_offsets \[0,1,2\]/],
  ["a negative offset", file(info("U8", [1], [-1, 0]), [0]), /data_offsets \[-1,0\]/],
  ["offsets backwards", file(info("U8", [1], [1, 0]), [0]), /takes 1 bytes, data_offsets \[1, 0\] hold -1/],
  [
    "a shape for other bytes",
    file(info("F32", [2, 1], [0, 4]), [0, 0, 0, 0]),
    /F32 \[2, 1\] takes 8 .* hold 4/,
  ],
  [
    "a shape beyond 2^53",
    file(info("U8", [2 ** 40, 2 ** 40], [0, 1]), [0]),
    /takes 1\.2089258196146292e\+24/,
  ],
  [
    "offsets out of the file",
    file(info("F32", [1], [0, 4]), [0, 0]),
    /ends at byte 4, outside the file's 2 bytes/,
  ],
  [
    "a hole in front",
    file(info("U8", [1], [1, 2]), [0, 0]),
    /hole after the header: begins at byte 1, expected 0/,
  ],
  ["a rest that is nobody's", file(info("U8", [1], [0, 1]), [0, 0]), /1 bytes after "x" belong to no tensor/],
  ["data without tensors", file("{}", [0]), /1 bytes after the header/],
  [
    "an overlap",
    file(
      '{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
      [0, 0, 0],
    ),
    /"y" overlaps "x": begins at byte 1, expected 2/,
  ],
  [
    "a hole between",
    file(
      '{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}',
      [0, 0, 0],
    ),
    /"y" leaves a hole after "x": begins at byte 2, expected 1/,
  ],
];

for (const [name, bytes, message] of cases) {
  malformed(`${name} is refused`, () => refuses(() => decodeSafetensors(bytes), message));
}

malformed("every cut of a good file is refused", () => {
  const good = encodeSafetensors([["x", { dtype: "F32", shape: [3], data: new Float32Array(3) }]]);
  for (let length = 0; length < good.length; length++) {
    assert.throws(
      () => decodeSafetensors(good.subarray(0, length)),
      (error: unknown) => error instanceof FormatError,
    );
  }
});

malformed("equal keys in different objects are no duplicates", () => {
  const header = `{"dtype":${one},"a\\"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}`;
  assert.equal([...decodeSafetensors(file(header, [0, 0, 0, 0])).tensors.keys()], ["dtype", 'a"b']);
});

malformed("names of the language are ordinary names", () => {
  const header = `{"__metadata__":{"__proto__":"m"},"__proto__":${one}}`;
  const { tensors, metadata } = decodeSafetensors(file(header, [0, 0, 128, 63]));
  assert.equal([...tensors.keys()], ["__proto__"]);
  assert.equal(Object.entries(metadata), [["__proto__", "m"]]);
});

malformed("the writer refuses what the reader would", () => {
  const write = (name: string, dtype: SafetensorsDtype, shape: number[], data: TensorData) =>
    encodeSafetensors([
      ["a", { dtype: "U8", shape: [0], data: new Uint8Array(0) }],
      [name, { dtype, shape, data }],
    ]);
  const ones = new Float32Array([1]);
  refuses(() => write("a", "F32", [1], ones), /name "a" is already taken/);
  refuses(() => write("__metadata__", "F32", [1], ones), /"__metadata__" is already taken/);
  refuses(() => write("x", "F32", [2], ones), /"x" F32 \[2\] takes 8 bytes, its data has 4/);
  refuses(() => write("x", "F32", [-1, -1], ones), /shape \[-1, -1\]/);
  refuses(() => write("x", "F32", [1.5], ones), /shape \[1\.5\]/);
  refuses(() => write("x", "I32", [1], ones), /I32 cannot be written from a Float32Array/);
});

malformed.run();
