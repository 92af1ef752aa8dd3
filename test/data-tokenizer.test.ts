/** Tokenizers from small vocabularies made here; those of published models are in data-reference.test.ts. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  bpeTokenizer,
  createRng,
  mergesTxt,
  pretrainingLines,
  tokenizerFromJson,
  trainBpe,
  vocabJson,
  wordPieceTokenizer,
} from "../src/data/index.ts";
import { assemble, longestFirst, plainTemplate, robertaTemplate } from "../src/data/template.ts";

const trained = trainBpe(pretrainingLines(300, { seed: 2 }), { vocabSize: 400 });
const vocabText = vocabJson(trained);
const mergesText = mergesTxt(trained);
const demo = bpeTokenizer(vocabText, mergesText);
const ids = (values: Iterable<number>): number[] => [...values];
const tokens = (values: Iterable<number>): (string | undefined)[] =>
  [...values].map((id) => demo.tokenOf(id));

const encoding = suite("data: encoding");

encoding("a text is put between <s> and </s>, a pair as RoBERTa does", () => {
  assert.equal(tokens(demo.encode("we felt it")).slice(0, 3), ["<s>", "Ġwe", "Ġfelt"]);
  const a = ids(demo.encode("we felt", null, { specials: false }));
  const b = ids(demo.encode(". and", null, { specials: false }));
  assert.equal(ids(demo.encode("we felt", ". and")), [0, ...a, 2, 2, ...b, 2]);
  assert.equal(ids(demo.encodeTyped("we felt", ". and").types), Array(a.length + b.length + 4).fill(0));
});

encoding("the first word is the same token as within a text, unless the tokenizer is told otherwise", () => {
  assert.equal(demo.encode("felt"), demo.encode(" felt"));
  const bare = bpeTokenizer(vocabText, mergesText, { addPrefixSpace: false });
  assert.not.equal(bare.encode("felt"), bare.encode(" felt"));
  assert.equal(bare.encode(" felt"), demo.encode("felt"));
  assert.is(bare.decode(bare.encode(" felt")), " felt");
  assert.is(demo.decode(demo.encode("felt")), "felt");
});

encoding("any text comes back, known bytes or not", () => {
  const rng = createRng(8);
  const alphabet = ["a", "é", " ", "  ", "\n", "日", "👍🏽", "'s", ".", "\u0000", "ß", "<", "s>"];
  for (let i = 0; i < 200; i++) {
    const text = Array.from({ length: rng.int(12) }, () => rng.pick(alphabet)).join("");
    if (text.startsWith(" ") || text.includes("<s>")) continue;
    assert.is(demo.decode(demo.encode(text)), text, JSON.stringify(text));
  }
  assert.equal(ids(demo.encode("")), [0, 2]);
  assert.is(demo.decode([]), "");
});

encoding("a mask in a text is one id and takes the space before it", () => {
  const masked = tokens(demo.encode("we felt <mask> ."));
  assert.equal(masked, ["<s>", "Ġwe", "Ġfelt", "<mask>", "Ġ.", "</s>"]);
  assert.is(demo.decode(demo.encode("we felt <mask> .")), "we felt .");
  assert.is(demo.decode(demo.encode("we felt <mask> ."), { specials: true }), "<s> we felt<mask> .</s>");
});

encoding("the same text gives the same ids a thousand times, through the cache", () => {
  const text = "the soup was not that good , we felt sad !";
  const first = demo.encode(text);
  for (let i = 0; i < 1000; i++) assert.equal(demo.encode(text), first);
});

encoding("special ids are found by their names", () => {
  const { padId, bosId, eosId, unkId, maskId, vocabSize, specialIds } = demo;
  assert.equal({ padId, bosId, eosId, unkId, maskId }, { padId: 1, bosId: 0, eosId: 2, unkId: 3, maskId: 4 });
  assert.equal(specialIds, [0, 1, 2, 3, 4]);
  assert.is(vocabSize, 400);
  assert.is(demo.idOf("Ġwe"), demo.encode("we")[1]);
  assert.is(demo.tokenOf(400), undefined);
});

encoding("an id without a token is refused", () => {
  assert.throws(() => demo.decode([5, 400]), /tokenizer: id 400 at place 1 is no token; ids are 0 .. 399/);
});

encoding.run();

const cutting = suite("data: truncation");

cutting("of two texts the longer one is cut, and at equal length the second", () => {
  for (let a = 0; a < 9; a++) {
    for (let b = 0; b < 9; b++) {
      for (let room = 1; room < 20; room++) {
        let [na, nb] = [a, b];
        while (na + nb > room) na > nb ? na-- : nb--;
        assert.equal(longestFirst(a, b, room), { a: na, b: nb }, `${a} + ${b} in ${room}`);
      }
    }
  }
});

cutting("the special tokens are always kept", () => {
  const full = ids(demo.encode("the soup was good"));
  assert.equal(ids(demo.encode("the soup was good", null, { maxLength: 4 })), [0, full[1], full[2], 2]);
  assert.equal(ids(demo.encode("the soup was good", null, { maxLength: full.length })), full);
  assert.equal(ids(demo.encode("we we we we", "felt", { maxLength: 7 })).slice(3), [
    2,
    2,
    demo.idOf("Ġfelt"),
    2,
  ]);
  assert.throws(
    () => demo.encode("we", "we", { maxLength: 4 }),
    /tokenizer: maxLength 4 leaves no room beside 4 special tokens/,
  );
});

cutting("a template puts pieces where it says", () => {
  const template = robertaTemplate(0, 2);
  assert.equal(ids(assemble(template, [7, 8, 9], [5], 7).ids), [0, 7, 8, 2, 2, 5, 2].slice(0, 7));
  assert.equal(ids(assemble(plainTemplate, [7, 8], [5], 9).ids), [7, 8, 5]);
});

cutting.run();

const doors = suite("data: broken vocabularies");

const without = (token: string): string => {
  const { [token]: _, ...rest } = trained.vocab;
  return JSON.stringify(rest);
};
const broken: readonly [name: string, make: () => unknown, error: RegExp][] = [
  ["an empty vocab.json", () => bpeTokenizer("", mergesText), /^tokenizer: vocab.json is empty$/],
  ["an empty object", () => bpeTokenizer("{}", mergesText), /^tokenizer: vocab.json is empty$/],
  ["an empty merges.txt", () => bpeTokenizer(vocabText, "\n"), /^tokenizer: merges.txt is empty$/],
  [
    "half a file",
    () => bpeTokenizer(vocabText.slice(0, 90), mergesText),
    /^tokenizer: vocab.json is not JSON: /,
  ],
  ["a list", () => bpeTokenizer("[1]", mergesText), /holds no object from token to id/],
  ["an id twice", () => bpeTokenizer('{"a":1,"b":1}', mergesText), /"a" and "b" share the id 1/],
  ["an id that is text", () => bpeTokenizer('{"a":"1"}', mergesText), /"a" has the id "1", not an integer/],
  ["no pad", () => bpeTokenizer(without("<pad>"), mergesText), /lacks the special token <pad>$/],
  [
    "no byte",
    () => bpeTokenizer(without("z"), "#version: 0.2\n", { specials: { unk: "none" } }),
    /lacks the byte 122 \("z"\)/,
  ],
  [
    "a merge of unknown pieces",
    () => bpeTokenizer(vocabText, "#version: 0.2\nĠ t\nq zz\n"),
    /^tokenizer: merges.txt line 3: "zz" is not in the vocabulary \(are both files of one model\?\)$/,
  ],
  [
    "a line of three",
    () => bpeTokenizer(vocabText, "a b c\n"),
    /merges.txt line 1: "a b c" is not "left right"/,
  ],
  [
    "another model",
    () => tokenizerFromJson('{"model":{"type":"Unigram","vocab":[]}}'),
    /a model of type Unigram/,
  ],
  ["no model", () => tokenizerFromJson("{}"), /tokenizer.json has no model with a vocabulary/],
  [
    "a BERT without [SEP]",
    () => wordPieceTokenizer("[CLS]\n[PAD]\n[UNK]\na\n"),
    /vocab.txt lacks the special token \[SEP\]/,
  ],
  ["a token twice", () => wordPieceTokenizer("[CLS]\n[PAD]\na\na\n"), /lines 3 and 4 are both "a"/],
];
for (const [name, make, error] of broken) {
  doors(`${name} is one clear error`, () => {
    assert.throws(make, (thrown: Error) => error.test(thrown.message) || assert.unreachable(thrown.message));
  });
}

doors("Windows line ends and a missing header are read", () => {
  const windows = bpeTokenizer(vocabText, mergesText.replaceAll("\n", "\r\n"));
  const headless = bpeTokenizer(vocabText, mergesText.slice(mergesText.indexOf("\n") + 1));
  for (const other of [windows, headless])
    assert.equal(other.encode("we felt sad"), demo.encode("we felt sad"));
});

doors.run();

const formats = suite("data: tokenizer.json and vocab.txt");

const json = (changes: object): string =>
  JSON.stringify({
    added_tokens: ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map((content, id) => ({
      id,
      content,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: true },
    post_processor: { type: "RobertaProcessing", sep: ["</s>", 2], cls: ["<s>", 0] },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: trained.vocab, merges: trained.merges },
    ...changes,
  });

formats("a tokenizer.json means the same as its vocab.json and merges.txt", () => {
  const pairs = trained.merges.map((merge) => merge.split(" "));
  const variants = [json({}), json({ model: { type: "BPE", vocab: trained.vocab, merges: pairs } })];
  for (const other of variants.map((text) => tokenizerFromJson(text))) {
    for (const line of pretrainingLines(20, { seed: 5 })) {
      assert.equal(other.encode(line, "no ,  it's 7!"), demo.encode(line, "no ,  it's 7!"));
      assert.is(other.decode(other.encode(line)), line);
    }
    assert.is(other.padId, 1);
    assert.is(other.maskId, 4);
    assert.is(other.vocabSize, 400);
  }
});

formats("a template of its own is followed, with its types", () => {
  const item = (id: string, type_id: number) =>
    id.length === 1 ? { Sequence: { id, type_id } } : { SpecialToken: { id, type_id } };
  const template = {
    type: "TemplateProcessing",
    single: [item("A", 0), item("</s>", 0)],
    pair: [item("A", 0), item("</s>", 0), item("B", 1), item("<s>", 1)],
  };
  const tokenizer = tokenizerFromJson(
    json({ post_processor: { type: "Sequence", processors: [{ type: "ByteLevel" }, template] } }),
  );
  const { ids: filled, types } = tokenizer.encodeTyped("we", "felt");
  assert.equal(tokens(filled), ["Ġwe", "</s>", "Ġfelt", "<s>"]);
  assert.equal(ids(types), [0, 0, 1, 1]);
});

formats("WordPiece cuts words from the left, lowercases, and types the second text", () => {
  const text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\nwe\n!\n";
  const tokenizer = wordPieceTokenizer(text);
  assert.equal(ids(tokenizer.encode("Unaffable WE!")), [2, 5, 6, 7, 8, 9, 3]);
  const { ids: pair, types } = tokenizer.encodeTyped("we", "xyz [MASK]");
  assert.equal(ids(pair), [2, 8, 3, 1, 4, 3]);
  assert.equal(ids(types), [0, 0, 0, 1, 1, 1]);
  assert.is(tokenizer.decode(tokenizer.encode("unaffable we!")), "unaffable we!");
  assert.is(tokenizer.padId, 0);
  assert.is(wordPieceTokenizer(text, { lowercase: false }).encode("WE")[1], 1);
});

formats.run();
