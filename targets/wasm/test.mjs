// Opens the page in headless Chromium, through its driver, and compares what it draws with arrays that the host has drawn:
// node test.mjs PAGE HOST SEED SCREENSHOT. A file of HOST is called CLASS-STEPS.npy.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';

const [page, host, seed, screenshot] = process.argv.slice(2);
const PIXELS = 28 * 28;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };

/** Serves the page's files, and a plan whose last weight is another one. */
function serve() {
  const server = createServer(async ({ url }, response) => {
    const asked = url === '/' ? 'index.html' : url;
    const damaged = asked === '/damaged.fsp';
    try {
      const file = await readFile(join(page, damaged ? 'digits.fsp' : asked));
      if (damaged) file[file.length - 1] ^= 1;
      response.writeHead(200, { 'Content-Type': TYPES[extname(asked)] ?? 'application/octet-stream' }).end(file);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((ready) => server.listen(0, '127.0.0.1', () => ready(server)));
}

/** Starts the driver; its address. */
function start(driver) {
  return new Promise((ready, fail) => {
    let said = '';
    driver.on('error', fail);
    driver.on('exit', () => fail(new Error(`the driver has ended: ${said}`)));
    driver.stdout.on('data', (text) => {
      said += text;
      const port = said.match(/started successfully on port (\d+)/);
      if (port) ready(`http://127.0.0.1:${port[1]}`);
    });
  });
}

/** One command of the WebDriver protocol. */
async function command(method, address, body) {
  const response = await fetch(address, { method, body: body && JSON.stringify(body) });
  const { value } = await response.json();
  if (value?.error) throw new Error(`${value.error}: ${value.message}`);
  return value;
}

/** The values of an array in a file, by their bits. */
async function bits(file) {
  const bytes = await readFile(file);
  const start = 10 + bytes.readUInt16LE(8);
  return Array.from({ length: PIXELS }, (_, i) => bytes.readUInt32LE(start + 4 * i));
}

/** How opaque a value of -1 to 1 is painted. */
const ink = (bits) => Math.min(255, Math.max(0, Math.round((new Float32Array(Uint32Array.of(bits).buffer)[0] + 1) * 127.5)));

async function test(session, address) {
  const run = (script, ...args) => command('POST', `${session}/execute/sync`, { script, args });
  const wait = (script, ...args) => command('POST', `${session}/execute/async`, { script: `
    const done = arguments[arguments.length - 1], args = [...arguments].slice(0, -1);
    (async () => { ${script} })().then(done, (error) => done(\`error: \${error.message}\`));`, args });
  const painted = () => run(`
    const { data } = document.getElementById('picture').getContext('2d').getImageData(0, 0, 28, 28);
    return [...data].filter((_, i) => i % 4 === 3);`);

  await command('POST', `${session}/url`, { url: address });
  const status = await wait(`
    const status = document.getElementById('status');
    while (/^Loading/.test(status.textContent)) await new Promise((later) => setTimeout(later, 20));
    return status.textContent;`);
  assert.match(status, /^\d+\.\d ms, 2 evaluations$/);
  console.log(`wasm: the page says: ${status}`);
  await writeFile(screenshot, await command('GET', `${session}/screenshot`), 'base64');

  const files = (await readdir(host)).sort();
  for (const file of files) {
    const [label, steps] = file.split(/[-.]/).map(Number);
    const drawn = await wait(`
      const { Digits } = await import('./fewstep.js');
      globalThis.digits ??= await Digits.open('digits.wasm', 'digits.fsp');
      return [...new Uint32Array(digits.draw(...args).pixels.buffer)];`, label, Number(seed), steps);
    assert.deepEqual(drawn, await bits(join(host, file)), `${file}: the page draws something else`);
  }
  console.log(`wasm: ${files.length} digits are what this computer's portable kernels draw, bit by bit`);

  // A person's way: a class, another number of evaluations, another seed.
  await run(`document.querySelectorAll('#classes button')[3].click();`);
  const three = await painted();
  assert.deepEqual(three, (await bits(join(host, '3-2.npy'))).map(ink));
  await run(`
    document.querySelectorAll('#classes button')[7].click();
    const steps = document.getElementById('steps');
    steps.value = '4';
    steps.dispatchEvent(new Event('input'));`);
  assert.deepEqual(await painted(), (await bits(join(host, '7-4.npy'))).map(ink));
  await run(`document.getElementById('next').click();`);
  assert.equal(await run(`return document.getElementById('seed').value;`), String(Number(seed) + 1));
  assert.notDeepEqual(await painted(), (await bits(join(host, '7-4.npy'))).map(ink));
  console.log('wasm: the page shows what it draws');

  const refused = (expression) => wait(`
    const { Digits } = await import('./fewstep.js');
    await ${expression};
    return 'no error';`);
  assert.match(await refused(`Digits.open('digits.wasm', 'damaged.fsp')`), /^error: the plan file is damaged/);
  assert.match(await refused(`Digits.open('digits.wasm', 'nothing.fsp')`), /^error: .*nothing\.fsp: 404/);
  assert.match(await refused('digits.draw(10, 0, 1)'), /^error: the classes are 0 to 9/);
  assert.match(await refused('digits.draw(0, 0, 65)'), /^error: there is no such number of steps/);
  await run('WebAssembly.validate = () => false;');
  assert.match(await refused(`Digits.open('digits.wasm', 'digits.fsp')`), /^error: This browser lacks/);
  console.log('wasm: damaged plans, wrong requests and browsers without SIMD have their messages');
}

const server = await serve();
const driver = spawn('chromedriver', ['--port=0'], { stdio: ['ignore', 'pipe', 'inherit'] });
let session;
try {
  const root = await start(driver);
  const { sessionId } = await command('POST', `${root}/session`, {
    capabilities: { alwaysMatch: { 'goog:chromeOptions': {
      // A container's root has no sandbox, and little shared memory.
      args: ['--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--window-size=760,830', '--hide-scrollbars'],
    } } },
  });
  session = `${root}/session/${sessionId}`;
  await test(session, `http://127.0.0.1:${server.address().port}/`);
} finally {
  if (session) await command('DELETE', session);
  driver.removeAllListeners('exit');
  driver.kill();
  server.close();
}
