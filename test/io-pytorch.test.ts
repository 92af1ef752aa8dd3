// Files of torch.save read as data: values, views, nesting; what is refused, by name. Goldens: test/golden/pytorch.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  encodeSafetensors,
  FormatError,
  openTensorFile,
  openWeights,
  type RawTensor,
  readPytorch,
  type TensorToWrite,
  toFloat32,
  toInt32,
} from "../src/io/index.ts";

const pytorch = suite("PyTorch files");
const golden = (name: string): string => fileURLToPath(new URL(`golden/pytorch/${name}`, import.meta.url));
const values: Record<string, { shape: number[]; values: number[] }> = JSON.parse(
  readFileSync(golden("values.json"), "utf8"),
);
const memory = (bytes: Uint8Array) => ({
  bytes: bytes.length,
  read: (start: number, length: number) => bytes.subarray(start, start + length),
});

function numbersOf(tensor: RawTensor): number[] {
  const floating = ["F64", "F32", "F16", "BF16"].includes(tensor.dtype);
  return [...(floating ? toFloat32(tensor) : toInt32(tensor))];
}

function check(name: string, tensor: RawTensor | undefined): void {
  const expected = values[name];
  if (!tensor || !expected) throw new Error(`no tensor ${name}`);
  assert.equal(tensor.shape, expected.shape, name);
  // F64 is rounded to f32; whole numbers are not.
  const rounded = tensor.dtype.startsWith("I") ? expected.values : expected.values.map(Math.fround);
  assert.equal(numbersOf(tensor), rounded, name);
}

pytorch("every type, views with strides, shared storage, scalars and empty tensors", () => {
  const file = openTensorFile(golden("tensors.bin"));
  const names = Object.keys(values).filter((name) => !name.startsWith("model_state_dict.") && name !== "p");
  assert.equal([...file.tensors.keys()], names);
  for (const name of names) check(name, file.tensors.get(name));
  const types = ["f32", "f16", "bf16", "f64", "i64", "bool"].map((name) => file.tensors.get(name)?.dtype);
  assert.equal(types, ["F32", "F16", "BF16", "F64", "I64", "BOOL"]);
  file.close();
  assert.throws(() => file.tensors.get("f32")?.bytes, /tensors.bin was closed/);
});

pytorch("nested dictionaries have dotted names; what is no tensor is left out", () => {
  const file = openTensorFile(golden("nested.pt"));
  const names = ["0.weight", "0.bias", "1.weight", "1.bias"].map((name) => `model_state_dict.${name}`);
  assert.equal([...file.tensors.keys()], [...names, "p"]);
  for (const name of [...names, "p"]) check(name, file.tensors.get(name));
  file.close();
});

function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    assert.instance(error, FormatError);
    return (error as Error).message;
  }
  throw new Error("nothing was refused");
}

pytorch("a pickle that wants to run something is refused with the name of it", () => {
  const message = refusal(() => openTensorFile(golden("malicious.bin")));
  assert.match(
    message,
    /malicious\.bin: pickle: it wants (posix|nt)\.system, which weights do not need; the file is refused \(take a safetensors file\)$/,
  );
});

pytorch("the format before 1.6, other files and damaged ones", () => {
  assert.match(
    refusal(() => openTensorFile(golden("legacy.bin"))),
    /a file of torch.save before 1.6; load it in Python/,
  );
  assert.match(
    refusal(() => readPytorch(memory(new Uint8Array(64)))),
    /neither a zip archive nor a pickle/,
  );
  const whole = readFileSync(golden("tensors.bin"));
  for (let cut = 4; cut < whole.length; cut += 97)
    assert.match(
      refusal(() => readPytorch(memory(whole.subarray(0, cut)))),
      /^(zip|pytorch|pickle): /,
    );
  // Any byte of the pickle changed: read, or refused as a format error; never another kind of failure.
  const start = whole.indexOf("collections") - 40;
  for (let at = start; at < start + 700; at += 3) {
    const bytes = Uint8Array.from(whole);
    bytes[at] = (bytes[at] ?? 0) ^ 0x15;
    try {
      for (const tensor of readPytorch(memory(bytes)).values()) void tensor.bytes;
    } catch (error) {
      assert.instance(error, FormatError, `byte ${at}: ${error}`);
    }
  }
});

const shards = suite("sharded weights");
const folder = mkdtempSync(join(tmpdir(), "adamix-shards-"));
const write = (name: string, data: string | Uint8Array): void => writeFileSync(join(folder, name), data);
const shard = (...entries: [string, TensorToWrite][]): Uint8Array => encodeSafetensors(entries);
const vector = (...data: number[]): TensorToWrite => ({
  dtype: "F32",
  shape: [data.length],
  data: Float32Array.from(data),
});

shards("an index leads to the tensors of all files", () => {
  write("a.safetensors", shard(["x", vector(1, 2)]));
  write("b.safetensors", shard(["y", vector(3)], ["z", vector(4)]));
  const index = { metadata: {}, weight_map: { x: "a.safetensors", y: "b.safetensors", z: "b.safetensors" } };
  write("model.safetensors.index.json", JSON.stringify(index));
  const file = openWeights(folder);
  assert.equal([...file.tensors.keys()], ["x", "y", "z"]);
  assert.equal(
    [...file.tensors.values()].flatMap((tensor) => [...toFloat32(tensor)]),
    [1, 2, 3, 4],
  );
  file.close();
});

shards("refusals name the file", () => {
  const refused = (map: unknown, message: RegExp): void => {
    write("bad.index.json", JSON.stringify(map));
    assert.match(
      refusal(() => openTensorFile(join(folder, "bad.index.json"))),
      message,
    );
  };
  refused(
    { weight_map: { x: "../a.safetensors" } },
    /names the file "\.\.\/a\.safetensors"; expected a plain name/,
  );
  refused({ weight_map: { x: "/etc/passwd" } }, /names the file "\/etc\/passwd"/);
  refused({ weight_map: { x: "c.safetensors" } }, /c\.safetensors is missing beside it/);
  refused({ weight_map: {} }, /is empty/);
  refused({}, /no "weight_map"/);
  write("c.safetensors", shard(["x", vector(9)]));
  refused({ weight_map: { x: "a.safetensors", y: "c.safetensors" } }, /"x" is in two of its files/);
  write("broken.bin", "no archive");
  assert.match(
    refusal(() => openTensorFile(join(folder, "broken.bin"))),
    /broken\.bin: pytorch: neither/,
  );
  assert.match(
    refusal(() => openWeights(join(folder, "none"))),
    /no weights in .*none \(expected model\.safetensors, /,
  );
});

shards.after(() => rmSync(folder, { recursive: true, force: true }));

pytorch.run();
shards.run();
