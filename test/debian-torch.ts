import { execFileSync } from "node:child_process";

const PYTHON = "/usr/bin/python3";

/** Why Debian's PyTorch, an oracle of some tests, cannot be asked here; null where it can. */
export const noTorch: string | null = (() => {
  try {
    execFileSync(PYTHON, ["-c", "import torch"], { stdio: "ignore", timeout: 60_000 });
    return null;
  } catch {
    return `${PYTHON} has no torch`;
  }
})();

/** What a Python program prints, read as JSON. */
export function askPython(program: string, ...args: readonly string[]): unknown {
  return JSON.parse(execFileSync(PYTHON, ["-c", program, ...args], { encoding: "utf8", timeout: 120_000 }));
}
