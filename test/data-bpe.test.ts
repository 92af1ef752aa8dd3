/** Byte-level BPE: its alphabet, its words, and the merges it learns. */
import { createHash } from "node:crypto";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BYTE_CHARACTERS, prefixSpace, splitWords } from "../src/data/bytes.ts";
import {
  bpeTokenizer,
  createRng,
  mergesTxt,
  pretrainingLines,
  trainBpe,
  vocabJson,
} from "../src/data/index.ts";
import { PairQueue } from "../src/data/pair-queue.ts";

const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

const bytes = suite("data: bytes and words");

bytes("every byte has one visible character of its own", () => {
  assert.is(new Set(BYTE_CHARACTERS).size, 256);
  assert.is(BYTE_CHARACTERS[0x20], "Ġ");
  assert.is(BYTE_CHARACTERS[0x0a], "Ċ");
  assert.is(BYTE_CHARACTERS[0x61], "a");
  assert.is(BYTE_CHARACTERS[0xad], "Ń"); // The soft hyphen is the last byte that is moved.
  assert.not.ok(BYTE_CHARACTERS.some((character) => /\s/u.test(character)));
});

bytes("words keep their spaces, and joined they are the text", () => {
  assert.equal(splitWords("we can't   wait , 42!\n"), [
    "we",
    " can",
    "'t",
    "  ",
    " wait",
    " ,",
    " 42",
    "!",
    "\n",
  ]);
  for (const text of ["", " ", "é à b", "日本 語!!", "a\t\tb  ", "👍🏽 ok"])
    assert.is(splitWords(text).join(""), text);
});

bytes.run();

const queue = suite("data: pair queue");

queue("the most frequent pair comes first, then the smaller ids, whatever the order of changes", () => {
  const pairs = new PairQueue();
  pairs.add(7, 1, 3, 0);
  pairs.add(2, 9, 3, 0);
  pairs.add(2, 8, 3, 1);
  pairs.add(5, 5, 1, 1);
  pairs.add(5, 5, 4, 2);
  pairs.add(7, 1, -3, 0);
  pairs.add(1, 1, 2, 0);
  assert.equal(pairs.pop(), { left: 5, right: 5, count: 5 });
  pairs.add(1, 1, 8, 3);
  const order = [pairs.pop(), pairs.pop(), pairs.pop(), pairs.pop()];
  assert.equal(order, [
    { left: 1, right: 1, count: 10 },
    { left: 2, right: 8, count: 3 },
    { left: 2, right: 9, count: 3 },
    undefined,
  ]);
});

queue.run();

const bpe = suite("data: bpe training");

/** The definition, word for word: recount every pair of every word, merge the best one everywhere. */
function slowMerges(lines: readonly string[], vocabSize: number): string[] {
  const words = lines
    .flatMap((line) => splitWords(prefixSpace(line)))
    .map((word) => [...new TextEncoder().encode(word)]);
  const names = [...BYTE_CHARACTERS];
  const merges: string[] = [];
  while (names.length + 5 < vocabSize) {
    const counts = new Map<string, [number, number, number]>();
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const [a = 0, b = 0] = [word[i - 1], word[i]];
        counts.set(`${a} ${b}`, [(counts.get(`${a} ${b}`)?.[0] ?? 0) + 1, a, b]);
      }
    }
    const [best] = [...counts.values()].sort((x, y) => y[0] - x[0] || x[1] - y[1] || x[2] - y[2]);
    if (best === undefined) break;
    const [, a, b] = best;
    const name = `${names[a]}${names[b]}`;
    const known = names.indexOf(name);
    if (known < 0) names.push(name);
    const id = known < 0 ? names.length - 1 : known;
    const merge = `${names[a]} ${names[b]}`;
    if (!merges.includes(merge)) merges.push(merge);
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) if (word[i] === a && word[i + 1] === b) word.splice(i, 2, id);
    }
  }
  return merges;
}

bpe("incremental counts give the merges of the plain definition", () => {
  const rng = createRng(5);
  for (const letters of [1, 2, 3, 5]) {
    const lines = Array.from({ length: 23 }, () =>
      Array.from({ length: 1 + rng.int(30) }, () => rng.pick([..."abcde".slice(0, letters), " "])).join(""),
    );
    const { merges } = trainBpe(lines, { vocabSize: 340 });
    assert.equal(merges, slowMerges(lines, 340), `${letters} letters`);
  }
});

bpe("ids are specials, bytes, merges; overlapping pairs merge from the left", () => {
  const { vocab, merges } = trainBpe(["aaaa aaaa"], { vocabSize: 264 });
  assert.is(vocab["<s>"], 0);
  assert.is(vocab["<mask>"], 4);
  assert.is(vocab.a, 5 + 97);
  assert.equal(merges, ["a a", "Ġ aa", "Ġaa aa"]); // (Ġ, aa) and (aa, aa) tie: Ġ has the smaller id.
  assert.is(vocab.Ġaaaa, 263);
});

bpe("training ends when nothing is left to merge, or nothing frequent enough", () => {
  assert.equal(trainBpe(["ab"], { vocabSize: 999 }).merges, ["Ġ a", "Ġa b"]);
  assert.equal(trainBpe(["ab ab cd"], { vocabSize: 999, minFrequency: 2 }).merges, ["Ġ a", "Ġa b"]);
  assert.equal(trainBpe([], { vocabSize: 300 }).merges, []);
  assert.throws(() => trainBpe(["ab"], { vocabSize: 260 }), /vocabSize 260 is below 261 \(5 special tokens/);
  assert.throws(
    () => trainBpe(["ab"], { vocabSize: 300, specials: ["a"] }),
    /given twice or is a single byte/,
  );
});

bpe("other special tokens, and texts whose first word has no space", () => {
  const { vocab } = trainBpe(["abab"], { vocabSize: 258, specials: ["<|end|>"], addPrefixSpace: false });
  assert.is(vocab["<|end|>"], 0);
  assert.is(vocab.ab, 257);
});

bpe("the demonstration vocabulary is the reference's", () => {
  // bpe.py of the design on the same lines: 763 merges, equal pair by pair; 2026-11.
  const trained = trainBpe(pretrainingLines(20_000, { seed: 11 }), { vocabSize: 1024 });
  assert.is(trained.merges.length, 763);
  assert.is(digest(mergesTxt(trained)), "5486eb0a95dffcd7f92b98ada61ca5123aea86322e9a6f3f2ef2eebbefd6f3e9");
  assert.is(digest(vocabJson(trained)), "e008fe8efee46aed9470cea0802b39c9aaada742863d7a1a1ec98ae770f930c0");
});

bpe("its encoding is the reference's", () => {
  // Tok.enc of bpe.py on the first 5,000 lines: 94,598 ids; sha256 of the lines of ids.
  const trained = trainBpe(pretrainingLines(20_000, { seed: 11 }), { vocabSize: 1024 });
  const tokenizer = bpeTokenizer(vocabJson(trained), mergesTxt(trained));
  const rows = pretrainingLines(5000, { seed: 11 }).map((line) => tokenizer.encode(line).join(" "));
  assert.is(digest(rows.join("\n")), "59c1d7920c65ce372d7f875194e8b1648e0a657f36292e4fa5f8b05d53cfb188");
});

bpe("vocab.json lists tokens by id and survives tokens that objects treat specially", () => {
  const lines = ["__proto__ 1 22 22 constructor"];
  const trained = trainBpe(lines, { vocabSize: 400 });
  const read: Record<string, number> = JSON.parse(vocabJson(trained));
  assert.is(Object.keys(read).length, 261 + trained.merges.length);
  assert.is(Object.getPrototypeOf(trained.vocab), Object.prototype);
  assert.match(vocabJson(trained), /^\{"<s>":0,"<pad>":1,"<\/s>":2,"<unk>":3,"<mask>":4,"Ā":5,/);
  const tokenizer = bpeTokenizer(vocabJson(trained), mergesTxt(trained));
  assert.is(tokenizer.encode(lines[0] ?? "").length, 2 + 7); // " __" "proto" "__" " 1" " 22" " 22" " constructor"
});

bpe.run();
