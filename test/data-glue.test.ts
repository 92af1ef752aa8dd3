/** Readers of GLUE files and of data of one's own. The sentences are ours, in the files' formats. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  GLUE_TASKS,
  type GlueSplit,
  type GlueTask,
  readGlue,
  readJsonl,
  readTsv,
} from "../src/data/index.ts";

/** Lines of columns as a TSV text. */
const tsv = (...rows: readonly (readonly string[])[]): string =>
  rows.map((row) => `${row.join("\t")}\n`).join("");

const glue = suite("data: GLUE");

const PAIR = ["index", "sentence1", "sentence2", "label"];
const FILES: readonly [GlueTask, GlueSplit, text: string, expected: unknown][] = [
  [
    "sst2",
    "train",
    tsv(["sentence", "label"], ['a " fine film ', "1"], ["dull", "0"]),
    [
      { text: 'a " fine film ', label: 1 },
      { text: "dull", label: 0 },
    ],
  ],
  ["sst2", "test", tsv(["index", "sentence"], ["0", "so so"]), [{ text: "so so", label: null }]],
  ["cola", "dev", tsv(["gj04", "0", "*", "Him ran."]).trimEnd(), [{ text: "Him ran.", label: 0 }]],
  ["cola", "test", tsv(["index", "sentence"], ["0", "He ran."]), [{ text: "He ran.", label: null }]],
  [
    "mrpc",
    "train",
    `\uFEFF${tsv(["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["1", "7", "8", '"A', "B"])}`,
    [{ text: '"A', pair: "B", label: 1 }],
  ],
  [
    "mrpc",
    "test",
    tsv(["index", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["0", "7", "8", "A", "B"]),
    [{ text: "A", pair: "B", label: null }],
  ],
  [
    "qqp",
    "train",
    tsv(
      ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
      ["1", "2", "3", "A?"],
      ["4", "5", "6", "C?", "D?", "1"],
    ),
    [{ text: "C?", pair: "D?", label: 1 }],
  ],
  [
    "stsb",
    "dev",
    tsv(["index", "genre", "sentence1", "sentence2", "score"], ["0", "news", "A", "B", "3.800"]),
    [{ text: "A", pair: "B", label: 3.8 }],
  ],
  [
    "stsb",
    "test",
    tsv(["index", "genre", "sentence1", "sentence2"], ["0", "news", "A", "B"]),
    [{ text: "A", pair: "B", label: null }],
  ],
  [
    "stsb",
    "test",
    tsv(
      ["news", "x", "2012", "1", "2.5", "A", "B"],
      ["news", "x", "2012", "2", "0.4", "C", "D", "source 1", "source 2"],
    ),
    [
      { text: "A", pair: "B", label: 2.5 },
      { text: "C", pair: "D", label: 0.4 },
    ],
  ],
  [
    "mnlimm",
    "dev",
    tsv(["index", "sentence1", "sentence2", "gold_label"], ["0", "A", "B", "entailment"]),
    [{ text: "A", pair: "B", label: 0 }],
  ],
  [
    "mnli",
    "dev",
    tsv(
      ["index", "sentence1", "sentence2", "label1", "gold_label"],
      ["0", "A", "B", "neutral", "contradiction"],
    ),
    [{ text: "A", pair: "B", label: 2 }],
  ],
  [
    "qnli",
    "dev",
    tsv(["index", "question", "sentence", "label"], ["0", "Q?", "S", "not_entailment"]),
    [{ text: "Q?", pair: "S", label: 1 }],
  ],
  ["rte", "train", tsv(PAIR, ["0", "A", "B", "entailment"]), [{ text: "A", pair: "B", label: 0 }]],
  ["rte", "test", tsv(PAIR.slice(0, 3), ["0", "A", "B"]), [{ text: "A", pair: "B", label: null }]],
  [
    "wnli",
    "train",
    tsv(PAIR, ["0", "A", "B", "1"]).replaceAll("\n", "\r\n"),
    [{ text: "A", pair: "B", label: 1 }],
  ],
];
for (const [i, [task, split, text, expected]] of FILES.entries()) {
  glue(`${task} ${split} is read (file ${i})`, () => {
    assert.equal(readGlue(task, text, { split }), expected);
  });
}

glue("every task is in the table of files above, with as many values as labels", () => {
  assert.equal(new Set(FILES.map(([task]) => task)), new Set(Object.keys(GLUE_TASKS)));
  for (const { name, labels, values, metrics } of Object.values(GLUE_TASKS)) {
    assert.is(labels?.length, values?.length, name);
    assert.ok(metrics.length > 0, name);
  }
});

const GLUE_ERRORS: readonly [name: string, GlueTask, GlueSplit, text: string, error: string][] = [
  [
    "a label outside the set",
    "sst2",
    "dev",
    tsv(["sentence", "label"], ["a", "1"], ["b", "2"]),
    'SST-2 dev: line 3: label "2" is not one of 0, 1',
  ],
  ["a row cut short", "rte", "train", tsv(PAIR, ["0", "A"]), "RTE train: line 2: 2 columns, not 4"],
  [
    "a column too many",
    "wnli",
    "train",
    tsv(PAIR, ["0", "A", "B", "1", ""]),
    "WNLI train: line 2: 5 columns, not 4",
  ],
  [
    "a file of another task",
    "rte",
    "dev",
    tsv(["sentence", "label"]),
    'RTE dev: line 1: there is no column "sentence1"; the columns are sentence, label',
  ],
  [
    "a training file without labels",
    "rte",
    "train",
    tsv(PAIR.slice(0, 3)),
    'RTE train: line 1: there is no column "label"; the columns are index, sentence1, sentence2',
  ],
  [
    "a score that is no number",
    "stsb",
    "train",
    tsv(["sentence1", "sentence2", "score"], ["A", "B", "x"]),
    'STS-B train: line 2: label "x" is not a number',
  ],
  [
    "a score out of range",
    "stsb",
    "train",
    tsv(["sentence1", "sentence2", "score"], ["A", "B", "5.2"]),
    "STS-B train: line 2: score 5.2 is outside 0 .. 5",
  ],
  [
    "a test file without header whose rows are short",
    "stsb",
    "test",
    tsv(["news", "x", "2012", "1", "2.5", "A"]),
    "STS-B test: line 1: 6 columns, not 7",
  ],
  ["an empty file", "cola", "train", "", "CoLA train: the file is empty"],
];
for (const [name, task, split, text, error] of GLUE_ERRORS) {
  glue(`${name} is one error with its line`, () => {
    assert.throws(
      () => readGlue(task, text, { split }),
      (thrown: Error) => is(thrown.message, error),
    );
  });
}

function is(actual: string, expected: string): boolean {
  assert.is(actual, expected);
  return true;
}

glue.run();

const own = suite("data: TSV and JSON Lines of one's own");
const labels = ["bad", "good"];
const options = { labels, file: "my.tsv" };

own("columns are found by name, in any order, with or without pairs", () => {
  const text = tsv(["label", "note", "text"], ["good", "x", "so nice"], ["bad", "y", " 'no' "]);
  assert.equal(readTsv(text, options), [
    { text: "so nice", label: 1 },
    { text: " 'no' ", label: 0 },
  ]);
  const paired = readTsv(tsv(["text", "pair", "label"], ["A", "", "bad"]), options);
  assert.equal(paired, [{ text: "A", pair: "", label: 0 }]);
});

own("columns have other names, or indices where there is no header", () => {
  const named = readTsv(tsv(["a", "b", "y"], ["1", "2", "good"]), {
    labels,
    columns: { text: "b", pair: "a", label: "y" },
  });
  assert.equal(named, [{ text: "2", pair: "1", label: 1 }]);
  const headless = readTsv(tsv(["A", "good"], ["B", "bad"]), { labels, columns: { text: 0, label: 1 } });
  assert.equal(headless, [
    { text: "A", label: 1 },
    { text: "B", label: 0 },
  ]);
});

own("labels may be numbers or absent", () => {
  const scores = readTsv(tsv(["text", "label"], ["A", "-1.5e1"]), { labels: "regression" });
  assert.equal(scores, [{ text: "A", label: -15 }]);
  assert.equal(readTsv(tsv(["text"], ["A"]), { labels, labelled: false }), [{ text: "A", label: null }]);
  assert.equal(readJsonl('{"text":"A","label":2.5}\n', { labels: "regression" }), [
    { text: "A", label: 2.5 },
  ]);
  assert.equal(readJsonl('{"text":"A"}', { labels, labelled: false }), [{ text: "A", label: null }]);
});

own("JSON Lines hold any text, and labels by name", () => {
  const text = `${JSON.stringify({ text: "two\nlines\tand a tab", pair: "B", label: "good" })}\r\n{"label":"bad","text":""}`;
  assert.equal(readJsonl(text, { labels }), [
    { text: "two\nlines\tand a tab", pair: "B", label: 1 },
    { text: "", label: 0 },
  ]);
  assert.equal(readJsonl('{"text":"A","label":1}', { labels: ["0", "1"] }), [{ text: "A", label: 1 }]);
});

const OWN_ERRORS: readonly [name: string, read: () => unknown, error: string][] = [
  [
    "a misspelt label",
    () => readTsv(tsv(["text", "label"], ["A", "good"], ["B", "goood"]), options),
    'my.tsv: line 3: label "goood" is not one of bad, good',
  ],
  [
    "a misspelt column",
    () => readTsv(tsv(["text", "lable"], ["A", "good"]), options),
    'my.tsv: line 1: there is no column "label"; the columns are text, lable',
  ],
  [
    "a pair column that was promised",
    () => readTsv(tsv(["text", "label"]), { ...options, columns: { pair: "other" } }),
    'my.tsv: line 1: there is no column "other"; the columns are text, label',
  ],
  [
    "a blank line within",
    () => readTsv("text\tlabel\nA\tgood\n\nB\tbad\n", options),
    "my.tsv: line 3: 1 columns, not 2",
  ],
  [
    "an index beyond the columns",
    () => readTsv("A\tgood\n", { ...options, columns: { text: 0, label: 2 } }),
    "my.tsv: line 1: there is no column 2; there are 2",
  ],
  [
    "an empty label for a number",
    () => readTsv("text\tlabel\nA\t\n", { ...options, labels: "regression" }),
    'my.tsv: line 2: label "" is not a number',
  ],
  [
    "a broken line",
    () => readJsonl('{"text":"A","label":"bad"}\n{"text"', options),
    'my.tsv: line 2: not JSON: {"text"',
  ],
  ["a list", () => readJsonl("[1]", options), "my.tsv: line 1: not a JSON object: [1]"],
  [
    "a text that is a number",
    () => readJsonl('{"text":3,"label":"bad"}', options),
    'my.tsv: line 1: "text" is 3, not a string',
  ],
  ["no text", () => readJsonl('{"label":"bad"}', options), 'my.tsv: line 1: there is no "text"'],
  ["no label", () => readJsonl('{"text":"A"}', options), 'my.tsv: line 1: there is no "label"'],
  [
    "an index for a name",
    () => readJsonl('{"text":"A","label":1}', options),
    'my.tsv: line 1: label "1" is not one of bad, good',
  ],
  ["nothing", () => readJsonl("\uFEFF", options), "my.tsv: the file is empty"],
];
for (const [name, read, error] of OWN_ERRORS) {
  own(`${name} is one error with its line`, () => {
    assert.throws(read, (thrown: Error) => is(thrown.message, error));
  });
}

own.run();
