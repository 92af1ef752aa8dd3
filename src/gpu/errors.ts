/** Sizes, shapes or arguments that an operation cannot take. Thrown before anything is recorded. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

/** A failure of the device: a kernel that does not compile, a validation error, lost device, memory. */
export class GpuError extends Error {
  override readonly name = "GpuError";
}
