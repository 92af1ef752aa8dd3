/** Texts in rows without padding, and what is held out of them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { holdOut, IGNORE, PackedTexts } from "../src/data/index.ts";

const packing = suite("data: packed texts");
const texts = [[5, 6, 7], [], [8], [9, 10, 11, 12]];
const stream = [0, 5, 6, 7, 0, 0, 8, 0, 9, 10, 11, 12, 0];

packing(
  "an end token stands before each text and after the last; every token but the first is predicted once",
  () => {
    for (const length of [1, 3, 4, 12]) {
      const rows = new PackedTexts(texts, { length, endId: 0 });
      assert.is(rows.tokens, stream.length);
      assert.is(rows.rows, Math.floor((stream.length - 1) / length));
      const all = Array.from({ length: rows.rows }, (_, row) => row);
      const { inputIds, labels } = rows.batch(all);
      assert.equal([...inputIds], stream.slice(0, rows.rows * length), `inputs in rows of ${length}`);
      assert.equal([...labels], stream.slice(1, rows.rows * length + 1), `labels in rows of ${length}`);
    }
  },
);

packing("rows come in the order asked for, -1 is a row that counts for nothing", () => {
  const rows = new PackedTexts(texts, { length: 3, endId: 0 });
  const { inputIds, labels } = rows.batch([2, -1, 0]);
  assert.equal([...inputIds], [...stream.slice(6, 9), 0, 0, 0, ...stream.slice(0, 3)]);
  assert.equal([...labels], [...stream.slice(7, 10), IGNORE, IGNORE, IGNORE, ...stream.slice(1, 4)]);
});

packing("a fingerprint tells streams apart", () => {
  const of = (given: number[][]): string => new PackedTexts(given, { length: 2, endId: 0 }).fingerprint();
  assert.is(of(texts), of(texts.map((text) => [...text])));
  assert.not.equal(of(texts), of([...texts].reverse()));
  assert.match(of(texts), /^[0-9a-f]{8}$/);
});

packing("too little text, impossible lengths and rows are named", () => {
  assert.throws(
    () => new PackedTexts([[1, 2]], { length: 4, endId: 0 }),
    /packing: 1 texts have 4 tokens with those between them; a row of 4 needs 5 \(give more text/,
  );
  assert.throws(() => new PackedTexts(texts, { length: 0, endId: 0 }), /packing: length is 0, expected/);
  const rows = new PackedTexts(texts, { length: 3, endId: 0 });
  assert.throws(() => rows.batch([4]), /packing: there is no row 4; there are 4/);
});

packing(
  "held out is the end: whole texts, then a part of one behind a line or a word, and nothing is lost",
  () => {
    const lines = "one\ntwo\nthree\nfour\n";
    for (const given of [[lines], [lines, "five six", "seven"], ["a b c d e f g h"], ["abcdefghij"]]) {
      for (const share of [0.05, 0.3, 0.6]) {
        const { train, held } = holdOut(given, share);
        assert.is([...train, ...held].join(""), given.join(""), "nothing is lost");
        assert.ok(held.join("").length >= share * given.join("").length, `at least ${share}`);
      }
    }
    assert.equal(holdOut([lines, "five six", "seven"], 0.2), {
      train: [lines, "five "],
      held: ["six", "seven"],
    });
    assert.equal(holdOut([lines], 0.3), { train: ["one\ntwo\n"], held: ["three\nfour\n"] });
    assert.throws(() => holdOut([lines], 0), /holdOut: share is 0, expected 0 < share < 1/);
  },
);

packing.run();
