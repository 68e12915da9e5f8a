# language typescript, target preview2, file /module.wasm
# world demo:greet/greeter@0.1.0 exports [greet]
ARG WASM_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared <<'ZLAYER'
set -e
command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4
command -v esbuild >/dev/null || npm install --global --no-audit --no-fund esbuild@0.25.12
ZLAYER

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY <<'ZLAYER' /wasm/componentize.mjs
// Makes a component of JavaScript with the componentize-js that comes with jco:
//
//   componentize.mjs SOURCE WIT WORLD OUT     an empty WORLD is the only one there is
//
// What componentize-js has Wizer do, the snapshot of an interpreter that has read the program, is done
// here, in a world in which clocks tick from 1970 on and random numbers are always the same: by Wizer
// no two snapshots are equal. The program has true time and chance when it runs.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { basename, delimiter, dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { WASI } from 'node:wasi';

const unfit = 'no snapshot of this interpreter can be made here';

if (process.argv.includes('--init-func')) snapshot(process.argv.slice(2));
else await make(...process.argv.slice(2));

async function make(source, wit, world, out) {
  const jco = process.env.PATH.split(delimiter).map((d) => join(d, 'jco')).find(existsSync);
  const library = jco && find(dirname(realpathSync(jco)), 'node_modules/@bytecodealliance/componentize-js/src/componentize.js');
  let reason = `${jco ?? 'jco'} comes without componentize-js`;
  if (library) {
    process.removeAllListeners('warning');
    process.env.TMPDIR = '/tmp/zlayer-componentize';
    rmSync(process.env.TMPDIR, { recursive: true, force: true });
    mkdirSync(process.env.TMPDIR);
    const wizerBin = join(process.env.TMPDIR, 'snapshot.mjs');
    writeFileSync(wizerBin, `#!${process.execPath} --no-warnings\nimport ${JSON.stringify(import.meta.url)};\n`);
    chmodSync(wizerBin, 0o755);
    Math.random = () => 0.5; // names the folder of the work, which is in the snapshot
    try {
      const { componentize } = await import(pathToFileURL(library));
      const made = await componentize(readFileSync(source, 'utf8'), {
        sourceName: basename(source), witPath: resolve(wit), worldName: world || undefined, wizerBin,
      });
      writeFileSync(out, made.component);
      return;
    } catch (err) {
      if (!String(err).includes(unfit)) {
        console.error(String(err?.message ?? err));
        process.exit(1);
      }
      reason = unfit;
    }
  }
  console.error(`zlayer: ${reason}: the component is made by jco as it is, and differs each time`);
  const args = ['componentize', source, '--wit', wit, '-o', out, ...(world ? ['--world-name', world] : [])];
  process.exit(spawnSync('jco', args, { stdio: 'inherit' }).status ?? 1);
}

// find looks for a file in a folder and those above it.
function find(dir, name) {
  for (;; dir = dirname(dir)) {
    if (existsSync(join(dir, name))) return join(dir, name);
    if (dir === dirname(dir)) return undefined;
  }
}

// snapshot is called with the arguments of Wizer.
function snapshot(args) {
  const options = new Map();
  const preopens = {};
  let input = '';
  while (args.length > 0) {
    const word = args.shift();
    const [name, value] = [word.split('=', 1)[0], word.slice(word.indexOf('=') + 1)];
    if (!word.startsWith('-')) input = word;
    else if (name === '--init-func') options.set(name, args.shift());
    else if (name === '--dir') preopens[value] = value;
    else if (name === '--mapdir') preopens[value.split('::')[0]] = value.split('::')[1];
    else options.set(name, value);
  }
  const wasm = readFileSync(input);
  const initialise = options.get('--init-func');
  writeFileSync(options.get('-o'), withMemory(wasm, run(wasm, preopens, initialise), ['_initialize', initialise]));
}

// run initialises the module and gives its memory.
function run(wasm, preopens, initialise) {
  const module = new WebAssembly.Module(wasm);
  const wasi = new WASI({ version: 'preview1', args: [], env: process.env, preopens });
  const imports = wasi.getImportObject();
  let memory;
  settle(imports.wasi_snapshot_preview1, () => memory);
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    imports[from][name] ??= () => { throw new Error(`${from} ${name} was called at build time`); };
  }
  const { exports } = new WebAssembly.Instance(module, imports);
  memory = exports.memory;
  wasi.initialize({ exports });
  exports[initialise]();
  return new Uint8Array(memory.buffer);
}

// settle takes chance and time out of the system's functions.
function settle(system, memory) {
  const put = (at, value) => new DataView(memory().buffer).setBigUint64(at, value, true);
  let seed = 0x2545f491;
  let now = 0n;
  system.random_get = (at, length) => {
    const out = new Uint8Array(memory().buffer, at, length);
    for (let i = 0; i < length; i++) {
      seed ^= seed << 13;
      seed ^= seed >>> 17;
      seed ^= seed << 5;
      out[i] = seed;
    }
    return 0;
  };
  system.clock_time_get = (id, precision, at) => { put(at, (now += 1000n)); return 0; };
  system.clock_res_get = (id, at) => { put(at, 1000n); return 0; };
  const { path_filestat_get: stat } = system;
  system.path_filestat_get = (...args) => {
    const code = stat(...args);
    for (const field of [0, 8, 24, 40, 48, 56]) put(args[4] + field, 0n); // device, inode, links, times
    return code;
  };
}

// withMemory gives the module another content of its memory, and takes out what initialises it.
// Besides the memory the initialisation may have changed the stack pointer, which is what it was.
function withMemory(wasm, content, initialisers) {
  let at = 8;
  const number = () => {
    for (let n = 0, factor = 1; ; factor *= 128) {
      const b = wasm[at++];
      n += (b & 127) * factor;
      if (b < 128) return n;
    }
  };
  const segments = parts(content);
  const out = [wasm.subarray(0, 8)];
  const section = (id, body) => out.push(Buffer.from([id]), unsigned(body.length), body);
  const ids = { memory: 5, global: 6, exports: 7, start: 8, data: 11, dataCount: 12 };
  while (at < wasm.length) {
    const from = at;
    const id = wasm[at++];
    const end = number() + at;
    if (id === ids.memory && (number() !== 1 || number() !== 0)) throw new Error(`${unfit}: its memory is of another kind`);
    if (id === ids.memory) section(id, Buffer.concat([Buffer.from([1, 0]), unsigned(content.length / 65536)]));
    else if (id === ids.exports) {
      const kept = [];
      for (let n = number(); n > 0; n--) {
        const entry = at;
        const length = number();
        const name = wasm.toString('utf8', at, (at += length));
        at++;
        number();
        if (!initialisers.includes(name)) kept.push(wasm.subarray(entry, at));
      }
      section(id, Buffer.concat([unsigned(kept.length), ...kept]));
    } else if (id === ids.data) {
      for (let n = number(); n > 0; n--) {
        if (number() !== 0 || wasm[at++] !== 0x41) throw new Error(`${unfit}: it has data of another kind`);
        number();
        at++;
        const length = number();
        at += length;
      }
      section(id, Buffer.concat([unsigned(segments.length), ...segments.flatMap(([a, b]) =>
        [Buffer.from([0, 0x41]), signed(a), Buffer.from([0x0b]), unsigned(b - a), content.subarray(a, b)])]));
    } else if (id === ids.dataCount) section(id, unsigned(segments.length));
    else if (id === ids.global && number() !== 1) throw new Error(`${unfit}: it has several globals`);
    else if (id !== ids.start) out.push(wasm.subarray(from, end));
    at = end;
  }
  return Buffer.concat(out);
}

// parts are where the memory is not zero. Short gaps are no reason for another one.
function parts(content) {
  const list = [];
  for (let i = 0; i < content.length; i++) {
    if (content[i] === 0) continue;
    const last = list.at(-1);
    if (last && i - last[1] < 16) last[1] = i + 1;
    else list.push([i, i + 1]);
  }
  return list;
}

function unsigned(n) {
  const bytes = [];
  for (; n > 127; n = Math.floor(n / 128)) bytes.push((n % 128) + 128);
  return Buffer.from([...bytes, n]);
}

function signed(n) {
  const bytes = [];
  for (n |= 0; n > 63 || n < -64; n >>= 7) bytes.push((n & 127) | 128);
  return Buffer.from([...bytes, n & 127]);
}
ZLAYER
COPY --exclude=**/node_modules --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared <<'ZLAYER'
export WASM_WORLD=demo:greet/greeter@0.1.0 CARGO_COMPONENT_WIT_WORLD=demo:greet/greeter@0.1.0 WASM_WIT=/src/wit; export PATH=/src/node_modules/.bin:$PATH; set -e
esbuild src/index.ts --bundle --format=esm --platform=neutral --main-fields=module,main '--external:wasi:*' '--external:acme:*' --outfile=/wasm/bundle.js
node /wasm/componentize.mjs /wasm/bundle.js wit demo:greet/greeter@0.1.0 /wasm/module.wasm
touch -d @0 /wasm/module.wasm
ZLAYER

FROM scratch
COPY --from=build /wasm/module.wasm /module.wasm
