/**
 * The demonstration language. The digests are of the lines of the reference generator (gen.py of the design,
 * Python 3.11, 2026-11): sha256 of the lines joined by "\n", a task's lines being "label<TAB>text".
 */
import { createHash } from "node:crypto";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  createRng,
  DOMAINS,
  entailmentTask,
  type LabelledSentence,
  polarityProbe,
  pretrainingLines,
  repeatableSentences,
  SENTIMENT_LABELS,
  type SentenceTaskOptions,
  type Split,
  sentimentTask,
  topicTask,
} from "../src/data/index.ts";
import { aspectIndex, DOMAIN_WORDS, FEELINGS } from "../src/data/sentences-lexicon.ts";

const digest = (lines: readonly string[]): string =>
  createHash("sha256").update(lines.join("\n")).digest("hex");
const taskDigest = (rows: readonly LabelledSentence[]): string =>
  digest(rows.map(({ label, text }) => `${label}\t${text}`));

const lines = suite("data: pretraining lines");

const LINES: readonly [seed: number, split: Split, n: number, sha256: string][] = [
  [11, "train", 4000, "925c86ef52545e28426ff0a38c786d7e4bffb4cfa9e4db58d21ab9a3f9810046"],
  [13, "test", 2000, "d16f20dcee69579f3efb2690186234d254557c7e044669fe87ac06412d9bfbaf"],
  [5, "all", 2000, "b2d2412ef76e54f1642346d252c2b93666e61c6accd1fcd047451006d91fabf4"],
];
for (const [seed, split, n, sha256] of LINES) {
  lines(`${n} ${split} lines of seed ${seed} are the reference's`, () => {
    assert.is(digest(pretrainingLines(n, { seed, split })), sha256);
  });
}

lines("a longer run begins with the shorter one, and no line gives no lines", () => {
  assert.equal(pretrainingLines(7, { seed: 3 }), pretrainingLines(12, { seed: 3 }).slice(0, 7));
  assert.equal(pretrainingLines(0, { seed: 3 }), []);
});

lines("the random numbers are mulberry32's", () => {
  const rng = createRng(1); // Reference: Rng(1).u32() of gen.py, three times.
  assert.equal([rng.u32(), rng.u32(), rng.u32()], [2693262067, 11749833, 2265367787]);
});

lines.run();

const tasks = suite("data: sentence tasks");

const TRAIN3: SentenceTaskOptions = {
  split: "train",
  seed: 5003,
  perLabel: 21,
  domains: ["food", "trip", "gadget"],
};
const GOLDEN: readonly [string, () => LabelledSentence[], string][] = [
  [
    "sentiment test",
    () => sentimentTask({ split: "test", seed: 78, n: 2000 }),
    "c88bc27998d02990c765ea45f168b8c0e7efa85d422354852a9c0f3e7e0b711c",
  ],
  [
    "sentiment dev",
    () => sentimentTask({ split: "dev", seed: 77, n: 500 }),
    "f7488e1876fe7917eca53086cffe5037b6afccbd2354acf88189a90cc58c64a7",
  ],
  [
    "sentiment, 32 a label",
    () => sentimentTask({ split: "train", seed: 5000, perLabel: 32 }),
    "72740c247809d866d9e74af27021e147e7a3536e3718c346c525de54cd4f0bd5",
  ],
  [
    "sentiment, three domains",
    () => sentimentTask(TRAIN3),
    "8dc69fb62a0212296f2abae50598c8eb9c9a19d4685612df0e5d2f6f119ffb80",
  ],
  [
    "sentiment without neutral",
    () => sentimentTask({ ...TRAIN3, classes: 2 }),
    "d4547a80e2a3db3752187a29b81e3908ba6970b128196af65fe69adf3b34f720",
  ],
  [
    "topic test",
    () => topicTask({ split: "test", seed: 78, n: 2000 }),
    "58cd3d664dcef2935c7f6e694359e3ddfce75c4f1a5d4749d3e788b5b20df63f",
  ],
  [
    "topic, 32 a label",
    () => topicTask({ split: "train", seed: 5000, perLabel: 32 }),
    "c4ddd43f5a14c501d5f41d678189c65d560f734110bfde2b41505fb7ab0bf2aa",
  ],
  [
    "entailment test",
    () => entailmentTask({ split: "test", seed: 78, n: 2000 }),
    "684d188166769e17271cf988e9d3c177ff751d2612d547cbf8cfe856111c7488",
  ],
  [
    "entailment, three domains",
    () => entailmentTask(TRAIN3),
    "7073291f7c833e620f16cc42d4ab7f28da98f3d41737d667606e0d1a9f393839",
  ],
];
for (const [name, make, sha256] of GOLDEN) {
  tasks(`${name}: the sentences are the reference's`, () => {
    assert.is(taskDigest(make()), sha256);
  });
}

tasks("sentences are distinct and each label has its quota", () => {
  const rows = sentimentTask({ split: "train", seed: 4, perLabel: 9 });
  assert.is(new Set(rows.map(({ text }) => text)).size, 27);
  for (const label of SENTIMENT_LABELS.keys()) assert.is(rows.filter((row) => row.label === label).length, 9);
});

tasks("topic labels index the domains, and absent domains have no quota", () => {
  const rows = topicTask({ split: "train", seed: 1, perLabel: 5, domains: ["work", "food"] });
  assert.is(rows.length, 10);
  assert.equal(new Set(rows.map(({ label }) => DOMAINS[label])), new Set(["work", "food"]));
});

tasks("no word of feeling occurs in labelled text", () => {
  const feelings = Object.values(FEELINGS).flat();
  const words = new Set(
    sentimentTask({ split: "all", seed: 9, n: 1500 }).flatMap(({ text }) => text.split(" ")),
  );
  assert.equal(
    feelings.filter((word) => words.has(word)),
    [],
  );
});

tasks("the six test sentences that occur in pretraining are found and left out", () => {
  const repeated = repeatableSentences(pretrainingLines(150_000, { seed: 11 }));
  const test: SentenceTaskOptions = { split: "test", seed: 78, n: 1000 };
  const all = sentimentTask(test);
  const found = [...all.keys()].filter((i) => repeated.has(all[i]?.text ?? ""));
  assert.equal(found, [33, 123, 358, 569, 744, 880]); // As counted over the reference's sentences.
  const kept = sentimentTask({ ...test, exclude: repeated });
  assert.is(kept.length, 1000);
  assert.equal(
    kept.slice(0, 994),
    all.filter((_, i) => !found.includes(i)),
  );
  assert.not.ok(kept.some(({ text }) => repeated.has(text)));
});

tasks("a sentence that names a triple occurs in no other split", () => {
  // Every sentence of the lines, not only those that repeatableSentences keeps.
  const seen = new Set<string>();
  for (const line of pretrainingLines(20_000, { seed: 11 })) {
    for (const sentence of line.slice(0, -2).split(" . ")) seen.add(`${sentence} .`);
  }
  const repeated = repeatableSentences(pretrainingLines(20_000, { seed: 11 }));
  for (const split of ["dev", "test"] as const) {
    for (const { text } of sentimentTask({ split, seed: 6, n: 3000 })) {
      if (seen.has(text)) assert.ok(repeated.has(text), `${split}: ${text}`);
    }
  }
});

tasks("asking for more than there is, or for nothing clear, is an error", () => {
  const everything = new (class extends Set<string> {
    override has = () => true;
  })();
  assert.throws(
    () => sentimentTask({ split: "test", seed: 1, n: 3, exclude: everything }),
    /sentiment: 0 distinct sentences found, not 3/,
  );
  assert.throws(() => sentimentTask({ split: "test", seed: 1 }), /sentiment: give either n or perLabel/);
  assert.throws(() => topicTask({ split: "test", seed: 1, n: 3, perLabel: 3 }), /give either n or perLabel/);
  assert.throws(
    () => topicTask({ split: "test", seed: 1, n: 3, domains: [] }),
    /no domain is chosen; there are food/,
  );
  assert.throws(() => sentimentTask({ split: "test", seed: 1, n: 2.5 }), /2.5 is no number of sentences/);
});

tasks("the aspects are numbered without gaps, the plural ones last", () => {
  const indices = DOMAINS.flatMap((domain) =>
    DOMAIN_WORDS[domain].aspects.map((aspect) => aspectIndex(domain, aspect)),
  );
  assert.equal(
    indices.toSorted((a, b) => a - b),
    [...Array(48).keys()],
  );
  assert.is(aspectIndex("food", "noodles"), 36);
  assert.is(aspectIndex("work", "deadlines"), 47);
});

tasks("the probe's opinions are the reference's", () => {
  const rows = polarityProbe().flatMap(({ name, examples }) =>
    examples.map(({ text, polarity }) => `${name}\t${polarity}\t${text}`),
  );
  assert.is(digest(rows), "96f4b6105e35a0b2f420eba05653effd7c36c6a78bcbc78bb1700be62b179d18");
});

tasks.run();
