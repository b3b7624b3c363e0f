// Samples the digits network in a browser, with digits.wasm and a plan file for it.
//
//     const digits = await Digits.open('digits.wasm', 'digits.fsp');
//     const { pixels, milliseconds } = digits.draw(7, 42, 2); // class, seed, network evaluations

/** Of a picture, in pixels. */
export const SIDE = 28;

// The smallest module with an instruction of 128 bits: a function that gives i8x16.splat(0) has one.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]);

export class Digits {
  #functions;

  constructor(functions) {
    this.#functions = functions;
  }

  /**
   * Fetches the program and the plan, and checks both.
   * @param {string | URL} program
   * @param {string | URL} plan
   * @returns {Promise<Digits>}
   * @throws {Error} if the browser lacks 128-bit SIMD, a file cannot be had, or the plan is not one for the program
   */
  static async open(program, plan) {
    if (!globalThis.WebAssembly?.validate(SIMD)) {
      throw new Error(
        "This browser lacks WebAssembly's 128-bit SIMD. Chrome and Edge have it since version 91, Firefox since 89, Safari since 16.4.",
      );
    }
    const [code, file] = await Promise.all([bytes(program), bytes(plan)]);
    const { instance } = await WebAssembly.instantiate(code);
    const digits = new Digits(instance.exports);
    const { memory, reserve, open } = instance.exports;
    const start = reserve(file.byteLength) >>> 0;
    if (start === 0) throw new Error('The browser gives no memory for the plan.');
    new Uint8Array(memory.buffer, start, file.byteLength).set(new Uint8Array(file));
    digits.#check(open());
    return digits;
  }

  /**
   * Draws one digit.
   * @param {number} label its class, 0 to 9
   * @param {number} seed of the noise, 32 bits: that of PyTorch on a CPU
   * @param {number} steps network evaluations, 1 to 64
   * @returns {{pixels: Float32Array, milliseconds: number}} 28 rows of 28 values, -1 for paper to 1 for ink
   */
  draw(label, seed, steps) {
    const { memory, draw, picture } = this.#functions;
    const begin = performance.now();
    this.#check(draw(label, seed, steps));
    const milliseconds = performance.now() - begin;
    return { pixels: new Float32Array(memory.buffer, picture(), SIDE * SIDE).slice(), milliseconds };
  }

  #check(failure) {
    if (failure === 0) return;
    const { memory, message } = this.#functions;
    const text = new Uint8Array(memory.buffer, message(failure));
    throw new Error(new TextDecoder().decode(text.subarray(0, text.indexOf(0))));
  }
}

async function bytes(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}
