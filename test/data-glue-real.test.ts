// The published files of GLUE: every row is read, with the labels that are in it. Skipped where they are not here.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type GlueSplit, type GlueTask, readGlue } from "../src/data/index.ts";
import { skipped } from "./skip.ts";

const real = suite("data: published GLUE files");
const shared = fileURLToPath(new URL("../../shared/data/glue/", import.meta.url));

/** Examples of each class, counted in the files by a script of another language; of STS-B number and mean. */
const FILES: readonly [file: string, GlueTask, GlueSplit, expected: readonly number[]][] = [
  ["CoLA/train.tsv.gz", "cola", "train", [2528, 6023]],
  ["CoLA/dev.tsv.gz", "cola", "dev", [322, 721]],
  ["SST-2/train.tsv.gz", "sst2", "train", [29780, 37569]],
  ["SST-2/dev.tsv.gz", "sst2", "dev", [428, 444]],
  ["MRPC/train.tsv.gz", "mrpc", "train", [1194, 2473]],
  ["MRPC/dev.tsv.gz", "mrpc", "dev", [129, 279]],
  ["MRPC/msr_paraphrase_test.txt.gz", "mrpc", "test", [578, 1147]],
  ["QNLI/dev.tsv.gz", "qnli", "dev", [2702, 2761]],
  ["RTE/train.tsv.gz", "rte", "train", [1249, 1241]],
  ["RTE/dev.tsv.gz", "rte", "dev", [146, 131]],
  ["WNLI/train.tsv.gz", "wnli", "train", [323, 312]],
  ["WNLI/dev.tsv.gz", "wnli", "dev", [40, 31]],
  ["STS-B/train.tsv.gz", "stsb", "train", [5749, 2.7009990253653395]],
  ["STS-B/dev.tsv.gz", "stsb", "dev", [1500, 2.363907555555555]],
  ["STS-B/sts-test.tsv.gz", "stsb", "test", [1379, 2.607916606236405]],
];

for (const [file, task, split, expected] of FILES) {
  const path = join(shared, file);
  const title = `${file}: every row and its label`;
  if (!existsSync(path)) skipped(real, title, `../shared/data/glue/${file} is not here`);
  else
    real(title, () => {
      const examples = readGlue(task, gunzipSync(readFileSync(path)).toString("utf8"), { split });
      const labels = examples.map(({ label }) => label ?? Number.NaN);
      for (const { text, pair } of examples) assert.ok(text.trim() !== "" && pair?.trim() !== "");
      if (task !== "stsb") {
        const counts = expected.map((_, value) => labels.filter((label) => label === value).length);
        assert.equal(counts, expected);
        assert.is(
          labels.length,
          counts.reduce((sum, n) => sum + n, 0),
        );
        return;
      }
      assert.is(labels.length, expected[0]);
      const mean = labels.reduce((sum, label) => sum + label, 0) / labels.length;
      assert.ok(Math.abs(mean - (expected[1] ?? 0)) < 1e-9, `mean ${mean}`);
    });
}

const listed = new Set(FILES.map(([file]) => file));
if (existsSync(shared))
  real("no labelled file is left out", () => {
    const found = readdirSync(shared).flatMap((folder) =>
      readdirSync(join(shared, folder)).map((name) => `${folder}/${name}`),
    );
    const unlabelled = ["CoLA/test.tsv.gz", "RTE/test.tsv.gz"];
    for (const file of found)
      assert.ok(listed.has(file) || unlabelled.includes(file) || !file.endsWith(".gz"), file);
  });

real.run();
