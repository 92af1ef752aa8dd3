// Philox4x32-10 (Salmon et al. 2011): four random words from a counter and a key. src/autograd/random.ts is its twin.
fn multiply_high(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu; let a1 = a >> 16u;
  let b0 = b & 0xffffu; let b1 = b >> 16u;
  let middle = a1 * b0 + ((a0 * b0) >> 16u);
  let carry = a0 * b1 + (middle & 0xffffu);
  return a1 * b1 + (middle >> 16u) + (carry >> 16u);
}

fn philox(start: vec4u, seed: vec2u) -> vec4u {
  var c = start;
  var key = seed;
  for (var round = 0; round < 10; round++) {
    c = vec4u(multiply_high(0xCD9E8D57u, c.z) ^ c.y ^ key.x, 0xCD9E8D57u * c.z,
              multiply_high(0xD2511F53u, c.x) ^ c.w ^ key.y, 0xD2511F53u * c.x);
    key += vec2u(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}

// What a random number is for, never where it lies: element of an example, example, pass, step.
// A batch of P passes of B examples is B·P rows; row r is example r mod B of pass r div B.
struct Draw { stream: u32, examples: u32, first_example: u32, first_pass: u32 }

fn draw(element: u32, row: u32, seed: u32, step: u32, d: Draw) -> vec4u {
  return philox(vec4u(element, d.first_example + row % d.examples, d.first_pass + row / d.examples, step), vec2u(seed, d.stream));
}
