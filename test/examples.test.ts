// Each program of examples/ runs in a process of its own, and prints what the comment at its end says.
//
//     ADAMIX_UPDATE_GOLDEN=1 npm test -- examples      writes what they print into those comments
import { execFile, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { skipped } from "./skip.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "examples");
const isUpdating = process.env.ADAMIX_UPDATE_GOLDEN === "1";
const LONGEST_MS = 5 * 60_000;

/** How far a number with a decimal point may be from the printed one; others, and all words, are exact. */
const TOLERANCE: Readonly<Record<string, number>> = {
  "01-tensors.ts": 1e-6,
  "02-a-network-from-scratch.ts": 0.005,
  "03-a-character-gpt.ts": 0.15, // kernels add in different orders, and 300 steps amplify that
  "04-train-a-classifier.ts": 0.02,
  "05-adamix-on-roberta.ts": 0.05,
  "06-embedded-encoder.ts": 0.1, // 100 test sentences: one of them is 0.01
  "07-custom-op.ts": 1e-3,
  "08-your-own-method.ts": 0.05,
  "09-many-tasks.ts": 0, // words and whole numbers
};

/** What an example needs beside the code. */
const NEEDS: Readonly<Record<string, string>> = {
  "06-embedded-encoder.ts": "assets/encoder/model.safetensors",
  "09-many-tasks.ts": "assets/encoder/model.safetensors",
};

/** Arguments of an example, in a folder that is removed afterwards. */
const ARGUMENTS: Readonly<Record<string, (scratch: string) => string[]>> = {
  "06-embedded-encoder.ts": (scratch) => [join(scratch, "run")],
  "09-many-tasks.ts": (scratch) => [join(scratch, "tasks")],
};

/** Lines that begin so may go on as they like: what a trained model writes. */
const FREE: Readonly<Record<string, string>> = { "03-a-character-gpt.ts": "sample " };

const examples = suite("examples");
const names = readdirSync(folder).filter((name) => name.endsWith(".ts"));

examples.before(() => {
  // Examples import the package by its name, and so what is built.
  const { status } = spawnSync(process.execPath, [join(root, ".ci", "setup.mjs")], { stdio: "inherit" });
  if (status !== 0) throw new Error("examples: dist/ cannot be built; npm run build says why");
});

examples("are numbered, and each says how far its numbers may be off", () => {
  assert.equal(
    names.filter((name) => !/^\d\d-[a-z0-9-]+\.ts$/.test(name)),
    [],
  );
  assert.equal([...names].sort(), Object.keys(TOLERANCE).sort());
});

for (const name of names) {
  const needed = NEEDS[name];
  if (needed && !existsSync(join(root, needed))) skipped(examples, `${name} runs`, `no ${needed}`);
  else examples(`${name} prints what it says`, () => checkExample(name));
}

examples("03-a-character-gpt.ts learns a text file that it is given", async () => {
  const printed = await outputOf(join(folder, "03-a-character-gpt.ts"), (scratch) => {
    const path = join(scratch, "text.txt");
    writeFileSync(path, "Ein Männlein steht im Walde, ganz still und stumm.\n".repeat(40));
    return [path, "20"];
  });
  assert.match(printed[0] ?? "", /^2040 characters, 21 different; \d+ parameters$/);
  const losses = printed.flatMap((line) => /^step \d+ loss on held-out text (.+)$/.exec(line)?.[1] ?? []);
  assert.is(losses.length, 2);
  assert.ok(Number(losses[1]) < 0.8 * Number(losses[0]), losses.join(" to "));
});

examples.run();

async function checkExample(name: string): Promise<void> {
  const path = join(folder, name);
  const [program, expected] = parts(readFileSync(path, "utf8"));
  const printed = await outputOf(path, ARGUMENTS[name]);
  if (isUpdating) {
    const comment = printed.map((line) => `// ${line}`.trimEnd());
    writeFileSync(path, `${program.trimEnd()}\n\n${["// Prints:", ...comment].join("\n")}\n`);
    return;
  }
  if (expected.length === 0) throw new Error(`${name}: no comment "// Prints:" at its end`);
  for (let i = 0; i < Math.max(expected.length, printed.length); i++) {
    const free = FREE[name];
    if (free && printed[i]?.startsWith(free) && expected[i]?.startsWith(free)) continue;
    const difference = compareLines(printed[i] ?? "", expected[i] ?? "", TOLERANCE[name] ?? 0);
    if (difference) throw new Error(`${name}, line ${i + 1}: ${difference}`);
  }
}

/** The lines that a program prints, run in a folder that is removed afterwards. */
async function outputOf(
  path: string,
  argumentsIn: (scratch: string) => string[] = () => [],
): Promise<string[]> {
  const scratch = mkdtempSync(join(tmpdir(), "adamix-example-"));
  try {
    const argumentsOfNode = ["--import", "tsx", path, ...argumentsIn(scratch)];
    const { stdout } = await promisify(execFile)(process.execPath, argumentsOfNode, {
      cwd: root,
      timeout: LONGEST_MS,
    });
    return stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.trimEnd());
  } catch (error) {
    const { stderr = "", message } = error as { stderr?: string; message: string };
    // SwiftShader's and Mesa's warnings say nothing here.
    const said = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("Warning:"));
    throw new Error(`it fails: ${said.slice(0, 6).join("\n") || message}`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The program, and the lines of the comment at its end. */
function parts(text: string): [program: string, lines: string[]] {
  const [program = "", comment = ""] = text.split(/^\/\/ Prints:\n/m);
  const lines = comment.trimEnd().split("\n");
  return [program, comment === "" ? [] : lines.map((line) => line.replace(/^\/\/ ?/, ""))];
}

/** What is wrong with a printed line; null where it agrees. */
function compareLines(printed: string, expected: string, tolerance: number): string | null {
  const number = /-?\d+(?:\.\d+)?(?:e[-+]?\d+)?/g;
  const both = `printed ${JSON.stringify(printed)}, expected ${JSON.stringify(expected)}`;
  if (printed.replace(number, "#") !== expected.replace(number, "#")) return both;
  const wanted = expected.match(number) ?? [];
  for (const [i, text] of (printed.match(number) ?? []).entries()) {
    const other = wanted[i] as string;
    const isExact = !text.includes(".") && !other.includes(".");
    const difference = Math.abs(Number(text) - Number(other));
    if (isExact ? text !== other : !(difference <= tolerance)) return `${both} (within ${tolerance})`;
  }
  return null;
}
