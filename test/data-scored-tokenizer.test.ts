// Pieces with scores: merging by score, bytes for what has no piece, broken files; and the tokenizer of a real model.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { scoredTokenizer } from "../src/data/index.ts";
import { decodeSafetensors, toInt32 } from "../src/io/index.ts";
import { skipped } from "./skip.ts";

const scored = suite("scored tokenizer");

/** A tokenizer.bin with the bytes and these pieces behind them. */
function fileOf(pieces: readonly (readonly [text: string, score: number])[]): Uint8Array {
  const bytes = Array.from(
    { length: 256 },
    (_, i) => [`<0x${i.toString(16).padStart(2, "0").toUpperCase()}>`, 0] as const,
  );
  const all = [["<unk>", 0], ["\n<s>\n", 0], ["\n</s>\n", 0], ...bytes, ...pieces] as const;
  const parts: Uint8Array[] = [new Uint8Array(Uint32Array.of(27).buffer)];
  for (const [text, score] of all) {
    const encoded = new TextEncoder().encode(text);
    parts.push(
      new Uint8Array(Float32Array.of(score).buffer),
      new Uint8Array(Int32Array.of(encoded.length).buffer),
      encoded,
    );
  }
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

const letters = [" ", "a", "b", "c"].map((text) => [text, -100] as const);
const tokenizer = scoredTokenizer(fileOf([...letters, ["ab", -2], ["bc", -1], [" a", -3], ["abc", -4]]));
const id = (text: string): number => tokenizer.idOf(text) ?? -1;

scored("the best score merges first, whatever is longer", () => {
  // " abc": bc (-1) before ab (-2); then " a" (-3) before a + bc = abc (-4).
  assert.equal([...tokenizer.encode("abc")], [1, id(" a"), id("bc")]);
  assert.equal([...tokenizer.encode("ab", null, { specials: false })], [id(" "), id("ab")]);
  assert.equal([...tokenizer.encode("")], [1]);
});

scored("a character without a piece becomes its bytes, and comes back", () => {
  const ids = [...tokenizer.encode("aé")];
  assert.equal(ids.slice(2), [3 + 0xc3, 3 + 0xa9]);
  for (const text of ["abc", "aé b", "日本", "a  b\n"])
    assert.is(tokenizer.decode(tokenizer.encode(text)), text);
});

scored("special tokens are left out unless asked for", () => {
  assert.is(tokenizer.decode([1, id("a"), 2]), "a");
  assert.is(tokenizer.decode([1, id("a")], { specials: true }), "\n<s>\na");
  assert.throws(() => tokenizer.decode([9999]), /id 9999 at place 0 is no token/);
});

scored("a broken file is refused", () => {
  const file = fileOf(letters);
  assert.throws(
    () => scoredTokenizer(file.subarray(0, file.length - 1)),
    /cut short at byte \d+ of \d+, piece 262/,
  );
  assert.throws(() => scoredTokenizer(file.subarray(0, 500)), /tokenizer\.bin (is cut short|has \d+ pieces)/);
});

const folder = fileURLToPath(new URL("../../shared/weights/stories260K/", import.meta.url));
const name = "the tokenizer of stories260K gives the golden ids from their text";
if (!existsSync(folder)) skipped(scored, name, "../shared/weights/stories260K is not here");
else
  scored(name, () => {
    const real = scoredTokenizer(readFileSync(`${folder}tokenizer.bin`));
    const golden = decodeSafetensors(readFileSync(`${folder}golden.safetensors`)).tensors.get("ids");
    const ids = golden ? [...toInt32(golden)] : [];
    assert.is(ids[0], real.bosId);
    const text = real.decode(ids);
    assert.match(text, /^Once upon a time, /);
    assert.equal([...real.encode(text)], ids);
  });

scored.run();
