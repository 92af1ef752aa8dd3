// Generation: greedy and beams against goldens, sampling, batches of prompts, the cache, refusals, memory.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { beamSearch, generate, type NewToken } from "../src/models/index.ts";
import { assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { fixtureNames, loadFixture } from "./fixtures.ts";
import { type Gpt2Json, gpt2Of } from "./tiny-gpt2.ts";

const gpu = await testGpu();
const test = suite("generation");

interface DecodeCase {
  readonly kind: "greedy" | "beam";
  readonly prompt: readonly number[];
  readonly max_new: number;
  readonly eos: number;
  readonly output: readonly number[];
  readonly beams: number;
  readonly length_penalty: number;
  readonly no_repeat_ngram: number;
  readonly score: number;
}

interface DecodeJson extends Gpt2Json {
  readonly cases: readonly DecodeCase[];
}

for (const name of fixtureNames("decode_gpt2")) {
  const fixture = loadFixture<DecodeJson>(name);
  const { cases } = fixture.json;
  const model = gpt2Of(gpu, fixture, fixture);

  test(`${name}: greedy`, async () => {
    const greedy = cases.filter(({ kind }) => kind === "greedy");
    assert.ok(greedy.length > 0);
    for (const { prompt, max_new: maxNew, eos, output } of greedy) {
      const [text] = await generate(model, [prompt], { maxNew, stopTokens: [eos] });
      assert.equal([...(text?.ids ?? [])], output);
      assert.is(text?.stopped, output.at(-1) === eos);
    }
  });

  test(`${name}: beams, length penalties, no repeated n-grams`, async () => {
    const beams = cases.filter(({ kind }) => kind === "beam");
    assert.ok(beams.length > 0);
    for (const { prompt, max_new: maxNew, eos, output, score, ...rest } of beams) {
      const [best] = await beamSearch(model, [prompt], {
        beams: rest.beams,
        maxNew,
        stopTokens: [eos],
        lengthPenalty: rest.length_penalty,
        noRepeatNgram: rest.no_repeat_ngram,
      });
      assert.equal([...(best?.ids ?? [])], output);
      assertClose([best?.score ?? 0], [score], { atol: 1e-4, name: JSON.stringify(rest) });
    }
  });
}

const fixture = loadFixture<DecodeJson>("decode_gpt2");
const model = gpt2Of(gpu, fixture, fixture);
const prompts = [[89], [75, 99, 30], [44, 33, 9, 44, 36]];

test("a batch of prompts of different lengths gives what each gives alone", async () => {
  const stopTokens = [39, 65];
  const together = await generate(model, prompts, { maxNew: 12, stopTokens });
  const beams = { beams: 3, maxNew: 8, stopTokens, noRepeatNgram: 2 };
  const searched = await beamSearch(model, prompts, beams);
  for (const [i, prompt] of prompts.entries()) {
    const [alone] = await generate(model, [prompt], { maxNew: 12, stopTokens });
    assert.equal(together[i], alone);
    const [best] = await beamSearch(model, [prompt], beams);
    assert.equal(searched[i]?.ids, best?.ids);
    assertClose([searched[i]?.score ?? 0], [best?.score ?? 1], { atol: 1e-5 });
  }
});

test("with and without a cache the tokens are the same", async () => {
  const options = { maxNew: 10, stopTokens: [39] };
  assert.equal(
    await generate(model, prompts, options),
    await generate(model, prompts, { ...options, cache: false }),
  );
  const [cached, whole] = await Promise.all(
    [true, false].map((cache) => beamSearch(model, prompts, { beams: 3, ...options, cache })),
  );
  for (const [i, best] of (cached ?? []).entries()) assert.equal(best.ids, whole?.[i]?.ids);
});

test("sampling repeats itself by seed and text, in whatever batch", async () => {
  const sampling = { temperature: 1.5, topK: 20, topP: 0.9, stream: Stream.seed(3).fold("text") };
  const together = await generate(model, prompts, { maxNew: 12, sampling });
  assert.equal(await generate(model, prompts, { maxNew: 12, sampling }), together);
  const [last] = await generate(model, prompts.slice(2), { maxNew: 12, sampling, firstText: 2 });
  assert.equal(last, together[2]);
  const other = { ...sampling, stream: Stream.seed(4) };
  assert.not.equal(await generate(model, prompts, { maxNew: 12, sampling: other }), together);
  const one = await generate(model, prompts, { maxNew: 12, sampling: { ...sampling, topK: 1 } });
  assert.equal(one, await generate(model, prompts, { maxNew: 12 }));
  const few = await generate(model, prompts, {
    maxNew: 12,
    sampling: { topP: 1e-6, stream: sampling.stream },
  });
  assert.equal(few, one);
});

test("a callback sees each token as it comes", async () => {
  const seen: NewToken[] = [];
  const made = await generate(model, prompts, {
    maxNew: 6,
    stopTokens: [52],
    firstText: 5,
    onToken: (token) => seen.push(token),
  });
  for (const [i, { ids }] of made.entries()) {
    const own = seen.filter(({ text }) => text === 5 + i);
    assert.equal(
      own.map(({ token }) => token),
      [...ids],
    );
    assert.equal(
      own.map(({ step }) => step),
      [...ids.keys()],
    );
  }
});

test("no n-gram comes twice, and beams end where nothing else is left", async () => {
  const [best] = await beamSearch(model, [[89]], { beams: 4, maxNew: 30, noRepeatNgram: 1 });
  assert.is(new Set(best?.ids).size, 30);
});

test("what does not fit is refused before anything runs", async () => {
  const refused = async (call: Promise<unknown>, message: RegExp): Promise<void> => {
    const error = await call.then(
      () => null,
      (reason: Error) => reason,
    );
    assert.match(error?.message ?? "no error", message);
  };
  const stream = Stream.seed(1);
  await refused(generate(model, [[1, 2], []], { maxNew: 3 }), /prompt 1 has no token/);
  await refused(generate(model, [[1, 2]], { maxNew: 0 }), /maxNew is 0/);
  await refused(
    generate(model, [[1, 2, 3]], { maxNew: 40 }),
    /40 new tokens after the 3 of prompt 0; the model has positions for 41, so ask for 39 at most/,
  );
  await refused(
    generate(model, [Array(42).fill(1)], { maxNew: 1 }),
    /prompt 0 has 42 tokens; .* 41 \(cut it\)/,
  );
  await refused(generate(model, [[101]], { maxNew: 1 }), /the id 101, the vocabulary 101 tokens/);
  await refused(
    generate(model, [[1]], { maxNew: 1, sampling: { temperature: 0, stream } }),
    /temperature is 0/,
  );
  await refused(generate(model, [[1]], { maxNew: 1, sampling: { topK: 0.5, stream } }), /topK is 0.5/);
  await refused(generate(model, [[1]], { maxNew: 1, sampling: { topP: 0, stream } }), /topP is 0/);
  await refused(beamSearch(model, [[1]], { beams: 0, maxNew: 1 }), /beams is 0/);
  await refused(beamSearch(model, [[1]], { beams: 2, maxNew: 1, noRepeatNgram: -1 }), /noRepeatNgram is -1/);
});

test("the last position is used, and memory goes back", async () => {
  const before = liveBytes(gpu);
  const [text] = await generate(model, [[1, 2, 3]], { maxNew: 39 });
  assert.is(text?.ids.length, 39);
  await beamSearch(model, prompts, { beams: 3, maxNew: 5, noRepeatNgram: 2 });
  await generate(model, prompts, { maxNew: 5, cache: false, sampling: { topK: 5, stream: Stream.seed(1) } });
  assert.is(liveBytes(gpu), before);
});

test.run();
