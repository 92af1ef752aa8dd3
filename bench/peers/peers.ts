// The engines that are compared, and how each is started.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

export interface Peer {
  readonly name: string;
  /** The command line that does the work of a folder. */
  command(folder: string): readonly [string, ...string[]];
  /** Variables of its environment beside ours. */
  readonly env?: Readonly<Record<string, string>>;
  /** Why it cannot be started at all. */
  readonly missing?: string;
}

/** The folder in which peers run. */
export const PEERS_FOLDER = fileURLToPath(new URL(".", import.meta.url));

function javascript(name: string, file: string, backend: string, module?: string): Peer {
  return {
    name,
    command: (folder) => [process.execPath, "--import", "tsx", file, backend, folder],
    ...(module && !existsSync(`${PEERS_FOLDER}node_modules/${module}`)
      ? { missing: "not installed: npm ci --prefix bench/peers" }
      : {}),
  };
}

function python(name: string, program: string, device: "cpu" | "cuda", threads: number): Peer {
  const command: Peer["command"] = (folder) => [program, "pytorch.py", device, `${threads}`, folder];
  // The library of matrix products has threads of its own.
  const own = { OMP_NUM_THREADS: `${threads}`, OPENBLAS_NUM_THREADS: `${threads}` };
  return threads > 0 ? { name, command, env: own } : { name, command };
}

/** PyTorch with one thread and with all, and on CUDA where it sees a device. PYTHON names another python3. */
function torchPeers(): Peer[] {
  const candidates = process.env.PYTHON ? [process.env.PYTHON] : ["python3", "/usr/bin/python3"];
  for (const program of candidates) {
    const { status, stdout } = spawnSync(program, ["-c", "import torch; print(torch.cuda.is_available())"], {
      encoding: "utf8",
    });
    if (status !== 0) continue;
    const threads = availableParallelism();
    return [
      python("torch cpu, 1 thread", program, "cpu", 1),
      ...(threads > 1 ? [python(`torch cpu, ${threads} threads`, program, "cpu", threads)] : []),
      ...(stdout.trim() === "True" ? [python("torch cuda", program, "cuda", 0)] : []),
    ];
  }
  const missing = `no PyTorch for ${candidates.join(" or ")}; PYTHON names another`;
  return [{ ...python("torch", candidates[0] ?? "python3", "cpu", 0), missing }];
}

/** adamix first: all others are compared with it. */
export function peers(): Peer[] {
  return [
    javascript("adamix", "adamix.ts", "webgpu"),
    javascript("jax-js webgpu", "jax-js.mjs", "webgpu", "@jax-js/jax"),
    javascript("jax-js wasm", "jax-js.mjs", "wasm", "@jax-js/jax"),
    javascript("tfjs webgpu", "tfjs.mjs", "webgpu", "@tensorflow/tfjs-backend-webgpu"),
    javascript("tfjs wasm", "tfjs.mjs", "wasm", "@tensorflow/tfjs-backend-wasm"),
    ...torchPeers(),
  ];
}
