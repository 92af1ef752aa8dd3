import type { GenerateCommand } from "../src/cli/generate.ts";

/** The command generate without flags. */
export const GENERATE: GenerateCommand = {
  path: "",
  prompt: "one",
  maxNew: undefined,
  temperature: undefined,
  topK: undefined,
  topP: undefined,
  beams: undefined,
  lengthPenalty: undefined,
  blockNgrams: undefined,
  seed: 0,
  dtype: undefined,
  device: undefined,
};
