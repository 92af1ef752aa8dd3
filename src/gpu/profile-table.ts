import type { KernelProfile, ProfileReport } from "./profile.ts";

/** A report as text: totals, then a line for each kernel. */
export function formatProfile(report: ProfileReport): string {
  const head = ["kernel", "count", "total ms", "mean ms", "share", "GB/s", "GFLOP/s"];
  return [...totalLines(report), "", ...columns([head, ...report.kernels.map(cellsOf)])].join("\n");
}

function cellsOf(kernel: KernelProfile): string[] {
  const { count, totalMs, meanMs, share, gigabytesPerSecond, flops, gigaflopsPerSecond } = kernel;
  return [
    kernel.kernel,
    String(count),
    figure(totalMs, 3),
    figure(meanMs, 4),
    Number.isNaN(share) ? "-" : `${(100 * share).toFixed(1)}%`,
    figure(gigabytesPerSecond, 2),
    flops > 0 ? figure(gigaflopsPerSecond, 2) : "-",
  ];
}

function totalLines(report: ProfileReport): string[] {
  const { dispatches, submits, wallMs, hostMs, submitMs, hostMicrosecondsPerDispatch, kernels } = report;
  const perDispatch = `${figure(hostMicrosecondsPerDispatch, 1)} µs a dispatch`;
  const lines = [
    `${report.device}: ${clockOf(report)}`,
    `${dispatches} dispatches of ${kernels.length} kernels in ${submits} submits, ${figure(wallMs, 2)} ms in all`,
    `host ${figure(hostMs, 2)} ms (${perDispatch}), of it submits ${figure(submitMs, 2)} ms`,
  ];
  if (report.clock === "none") return lines;
  const idle = `${figure(report.idleMs, 2)} ms (${figure(report.idleBetweenSubmitsMs, 2)} ms between submits)`;
  lines.push(
    `device busy ${figure(report.busyMs, 2)} ms, idle ${idle}, longest gap ${figure(report.longestGapMs, 2)} ms`,
  );
  return lines;
}

function clockOf({ clock, roundTripMs }: ProfileReport): string {
  switch (clock) {
    case "timestamps":
      return "kernels timed by timestamp queries, a pass for each dispatch";
    case "host":
      return `NO TIMESTAMP QUERIES: kernels timed by the host, one at a time; each time includes a round trip of ${figure(roundTripMs, 3)} ms or more`;
    case "none":
      return "kernels counted, not timed";
    default:
      return clock satisfies never;
  }
}

function figure(value: number, decimals: number): string {
  return Number.isFinite(value) ? value.toFixed(decimals) : "-";
}

/** Pads cells to columns: the first to the left, the others to the right. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}
