// Exported files computed with by another program: PyTorch, from the files alone (bench/interop).
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { makeCases } from "../bench/interop/make-cases.ts";
import { scratchFolder } from "./cli-process.ts";
import { askPython, noTorch } from "./debian-torch.ts";
import { gpu as testGpu } from "./device.ts";
import { skipped } from "./skip.ts";

const test = suite("exports in PyTorch");
const gpu = await testGpu();
const name = "adapters and heads of both formats give there the logits that they give here";
if (noTorch) skipped(test, name, noTorch);
else {
  test(name, async () => {
    const folder = scratchFolder();
    const made = await makeCases(gpu, folder);
    const program = readFileSync(
      fileURLToPath(new URL("../bench/interop/check_with_torch.py", import.meta.url)),
      "utf8",
    );
    const errors = askPython(program, folder) as Record<string, number>;
    // The Llama has no second implementation there.
    assert.equal(Object.keys(errors), made.filter((one) => !one.startsWith("llama")).sort());
    for (const [one, error] of Object.entries(errors)) assert.ok(error < 2e-5, `${one}: max error ${error}`);
  });
}

test.run();
