/**
 * Checks against published vocabularies and data that are not part of this repository: the folder named by
 * ADAMIX_SHARED, or `../shared` beside the project. Each is skipped where its file is absent.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  bpeTokenizer,
  type GlueSplit,
  type GlueTask,
  pretrainingLines,
  readGlue,
  readTsv,
  type Tokenizer,
  tokenizerFromJson,
  trainBpe,
  wordPieceTokenizer,
} from "../src/data/index.ts";
import { skipped } from "./skip.ts";

const shared = process.env.ADAMIX_SHARED || fileURLToPath(new URL("../../shared", import.meta.url));
const reference = suite("data: published vocabularies and data");

/** A test that needs files of the reference folder; skipped where one is absent. */
function check(name: string, files: readonly string[], body: (texts: readonly string[]) => void): void {
  const absent = files.find((file) => !existsSync(join(shared, file)));
  if (absent !== undefined)
    skipped(reference, name, `no ${absent} in the reference folder; ADAMIX_SHARED names it`);
  else reference(name, () => body(files.map(read)));
}

function read(file: string): string {
  const bytes = readFileSync(join(shared, file));
  return (file.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
}

interface TokenCase {
  readonly text: string;
  readonly ids: readonly number[];
  readonly agree?: boolean;
  readonly decoded?: string;
}

function checkCases(tokenizer: Tokenizer, casesText: string): void {
  const cases = (JSON.parse(casesText) as TokenCase[]).filter(({ agree }) => agree !== false);
  assert.ok(cases.length > 100, `${cases.length} cases`);
  for (const { text, ids, decoded } of cases) {
    assert.equal([...tokenizer.encode(text)], ids, JSON.stringify(text));
    if (decoded !== undefined) assert.is(tokenizer.decode(ids, { specials: true }), decoded);
  }
}

check(
  "GPT-2's ids and texts, from encoder.json and vocab.bpe",
  ["tokenizers/gpt2/encoder.json", "tokenizers/gpt2/vocab.bpe", "fixtures/numeric/tok_gpt2.json"],
  ([vocab = "", merges = "", cases = ""]) => {
    const tokenizer = bpeTokenizer(vocab, merges, { template: "none" });
    assert.is(tokenizer.vocabSize, 50_257);
    assert.is(tokenizer.padId, 50_256);
    checkCases(tokenizer, cases);
  },
);

check(
  "GPT-2's ids and texts, from tokenizer.json",
  ["tokenizers/gpt2/tokenizer.json.gz", "fixtures/numeric/tok_gpt2.json"],
  ([json = "", cases = ""]) => checkCases(tokenizerFromJson(json), cases),
);

check(
  "BERT's ids, from vocab.txt",
  ["tokenizers/bert-base-uncased/vocab.txt", "fixtures/numeric/tok_bert_uncased.json"],
  ([vocab = "", cases = ""]) => checkCases(wordPieceTokenizer(vocab), cases),
);

check(
  "BERT's pairs with their types",
  ["tokenizers/bert-base-uncased/vocab.txt", "fixtures/numeric/tok_bert_pairs.json"],
  ([vocab = "", text = ""]) => {
    const tokenizer = wordPieceTokenizer(vocab);
    const cases: { a: string; b: string; ids: number[]; type_ids: number[] }[] = JSON.parse(text);
    assert.ok(cases.length > 5);
    for (const { a, b, ids, type_ids } of cases) {
      const encoded = tokenizer.encodeTyped(a, b);
      assert.equal([...encoded.ids], ids);
      assert.equal([...encoded.types], type_ids);
    }
  },
);

check(
  "a vocabulary with specials in another order, and no unknown token",
  ["tokenizers/bpe2048/vocab.json", "tokenizers/bpe2048/merges.txt"],
  ([vocab = "", merges = ""]) => {
    const tokenizer = bpeTokenizer(vocab, merges);
    assert.equal([tokenizer.padId, tokenizer.bosId, tokenizer.eosId, tokenizer.maskId], [0, 1, 2, 3]);
    assert.is(tokenizer.unkId, null);
    assert.is(tokenizer.vocabSize, 2048);
    for (const text of ["The customer rating is 5 out of 5.", "naïve 日本 ☃", "a\n b"]) {
      assert.is(tokenizer.decode(tokenizer.encode(text)), text);
    }
  },
);

check("the demonstration vocabulary merges as designed", ["demo/bpe1024.json"], ([text = ""]) => {
  const { vocab, merges } = trainBpe(pretrainingLines(20_000, { seed: 11 }), { vocabSize: 1024 });
  const pairs = merges.map((merge) => merge.split(" ").map((token) => vocab[token]));
  assert.equal(pairs, JSON.parse(text));
});

check("SST-2 trains a vocabulary of 4,096 in seconds", ["data/glue/SST-2/train.tsv.gz"], ([text = ""]) => {
  const sentences = readGlue("sst2", text, { split: "train" }).map((row) => row.text);
  const start = performance.now();
  const { merges } = trainBpe(sentences, { vocabSize: 4096 });
  assert.is(merges.length, 4096 - 261);
  assert.ok(performance.now() - start < 30_000, `${performance.now() - start} ms`);
});

/** Rows and labels of index 1 as counted with wc and awk in these copies of the files. */
const FILES: readonly [GlueTask, GlueSplit, file: string, rows: number, positive: number][] = [
  ["cola", "train", "CoLA/train.tsv.gz", 8551, 6023],
  ["cola", "dev", "CoLA/dev.tsv.gz", 1043, 721],
  ["cola", "test", "CoLA/test.tsv.gz", 1063, 0],
  ["sst2", "train", "SST-2/train.tsv.gz", 67_349, 37_569],
  ["sst2", "dev", "SST-2/dev.tsv.gz", 872, 444],
  ["mrpc", "train", "MRPC/train.tsv.gz", 3667, 2473],
  ["mrpc", "dev", "MRPC/dev.tsv.gz", 408, 279],
  ["mrpc", "test", "MRPC/msr_paraphrase_test.txt.gz", 1725, 1147],
  ["qnli", "dev", "QNLI/dev.tsv.gz", 5463, 2761],
  ["rte", "train", "RTE/train.tsv.gz", 2490, 1241],
  ["rte", "dev", "RTE/dev.tsv.gz", 277, 131],
  ["rte", "test", "RTE/test.tsv.gz", 3000, 0],
  ["wnli", "train", "WNLI/train.tsv.gz", 635, 312],
  ["wnli", "dev", "WNLI/dev.tsv.gz", 71, 31],
];
for (const [task, split, file, rows, positive] of FILES) {
  check(`${task} ${split} is read whole`, [`data/glue/${file}`], ([text = ""]) => {
    const examples = readGlue(task, text, { split });
    assert.is(examples.length, rows);
    assert.is(examples.filter(({ label }) => label === 1).length, positive);
    assert.not.ok(examples.some((row) => row.text === "" || row.pair === ""));
  });
}

check(
  "stsb scores lie between 0 and 5",
  ["data/glue/STS-B/train.tsv.gz", "data/glue/STS-B/dev.tsv.gz"],
  ([train = "", dev = ""]) => {
    const scores = readGlue("stsb", train, { split: "train" }).map(({ label }) => label ?? Number.NaN);
    assert.is(scores.length, 5749);
    assert.is(Math.max(...scores), 5);
    assert.is(Math.min(...scores), 0);
    assert.is(readGlue("stsb", dev, { split: "dev" }).length, 1500);
  },
);

check(
  "few-shot files without a header are read by column",
  ["data/fewshot-clues/SST-2/10-1/train.tsv"],
  ([text = ""]) => {
    const rows = readTsv(text, { labels: ["0", "1"], columns: { text: 0, label: 1 } });
    assert.is(rows.length, 10);
    assert.is(rows.filter(({ label }) => label === 1).length, 4);
  },
);

reference.run();
